"""Which policy speaks, for which share, with which model behind it: end to end, and the worked cases 1 and 3."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from support.stack import Stack, node, policy
from support.witness import Witness, status
from weighbridge_simulator.control import Control
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival

pytestmark = pytest.mark.envoy
HI: list[Any] = [{"role": "user", "content": "hi"}]


def client(stack: Stack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0)


async def ask_who(stack: Stack, model: str | None = "m", **headers: str) -> tuple[int, str, str, str]:
    """Status, node, policy, model of the answer. Header names with _ for -."""
    body = {"messages": HI} | ({"model": model} if model else {})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/chat/completions", json=body, headers=named) as answer,
    ):
        told = json.loads(await answer.read())
        sent = answer.headers
        return (
            answer.status,
            sent.get("x-weighbridge-node", ""),
            sent.get("x-weighbridge-policy", ""),
            told.get("model", ""),
        )


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    models = tuple((name, name) for name in ("m", "m-large", "other"))
    async with Fleet([NodeSpec(name=name, models=models, zero=True) for name in "ab"]) as fleet:
        yield fleet


def serve(fleet: Fleet) -> list[dict[str, Any]]:
    models = [{"name": name} for name in ("m", "m-large", "other")]
    return [node(name, one.port, models=models, labels={"pool": name}) for name, one in fleet.nodes.items()]


async def test_the_most_specific_policy_speaks(fleet: Fleet) -> None:
    policies = [
        policy("all"),
        policy("prefix", match={"models": ["m*"]}, nodes={"matchLabels": {"pool": "a"}}),
        policy("exact", match={"models": ["m"]}, nodes={"matchLabels": {"pool": "b"}}),
        policy("exact-too", match={"models": ["m"]}),
        policy(
            "team",
            match={"models": ["m"], "headers": {"x-team": "search"}},
            nodes={"matchLabels": {"pool": "a"}},
            defaultModel="m",
        ),
        policy("default", match={"models": ["other"]}, defaultModel="other"),
    ]
    async with Stack(*serve(fleet), *policies) as stack:
        assert await ask_who(stack, "m") == (200, "b", "exact", "m")
        assert await ask_who(stack, "m-large") == (200, "a", "prefix", "m-large")
        assert (await ask_who(stack, "other"))[2] == "default"
        assert await ask_who(stack, "m", x_team="search") == (200, "a", "team", "m")
        assert (await ask_who(stack, "m", x_team="searching"))[2] == "exact"
        # The default model depends on the header, too.
        assert await ask_who(stack, None, x_team="search") == (200, "a", "team", "m")
        assert (await ask_who(stack, None))[2:] == ("default", "other")
        assert stack.loop.resolved is not None
        (overruled,) = [f for f in stack.loop.resolved.findings if f.ref.name == "exact-too"]
        assert "default/exact speaks for all" in overruled.message


async def test_shares_of_versions_hold_over_retries(fleet: Fleet) -> None:
    async with Witness(status(503)) as failing, Witness() as a, Witness() as b:
        versions = [{"name": "m", "version": v, "servedAs": f"v{v}"} for v in ("1", "2")]
        nodes = [node(n, w.port, models=versions) for n, w in (("failing", failing), ("a", a), ("b", b))]
        split = policy("p", versions=[{"version": "1", "share": 70}, {"version": "2", "share": 30}])
        async with Stack(*nodes, split) as stack:
            answered = Counter([(await ask_who(stack))[3] for _ in range(150)])
            assert answered["v1"] + answered["v2"] == 150
            assert 25 <= answered["v2"] <= 70
            assert (await ask_who(stack, "m@2"))[3] == "v2"
            # A try that failed asked for the same version as the one that was answered.
            tried = {h.header("x-request-id")[0]: json.loads(h.body)["model"] for h in failing.heard}
            done = {h.header("x-request-id")[0]: json.loads(h.body)["model"] for w in (a, b) for h in w.heard}
            assert tried
            assert all(done[request] == model for request, model in tried.items())


async def test_a_fallback_serves_while_the_pool_is_down_and_no_longer() -> None:
    specs = [NodeSpec(name=n, models=((n, n),), zero=True) for n in ("big", "small")]
    async with Fleet(specs) as fleet:
        nodes = [node(n, one.port, n) for n, one in fleet.nodes.items()]
        rules = policy("p", match={"models": ["big"]}, fallback=[{"model": "small"}])
        async with Stack(*nodes, rules) as stack:
            assert (await ask_who(stack, "big"))[3] == "big"
            fleet.nodes["big"].control({"down": True})
            assert {(await ask_who(stack, "big"))[3] for _ in range(10)} == {"small"}
            fleet.nodes["big"].control({"down": False})
            end = time.monotonic() + 15
            while (answer := await ask_who(stack, "big"))[3] != "big":
                assert answer[0] == 200
                assert time.monotonic() < end
                await asyncio.sleep(0.1)


CASE = {"node-1": (0.30, 0.40, 5), "node-2": (0.75, 0.65, 20), "node-3": (0.25, 0.35, 3), "node-4": (0.40, 0.50, 8)}
SCORES = {"node-1": 25.5, "node-2": 55.5, "node-3": 21.4, "node-4": 33.4}


async def test_case_1_the_lowest_score_gets_most_and_a_dead_node_costs_nothing() -> None:
    specs = [
        NodeSpec(
            name=name,
            models=(("m", "m"),),
            machine=True,
            control=Control(cpu=cpu, memory=memory, queue=queue, size=8.0),
            answer=8,
        )
        for name, (cpu, memory, queue) in CASE.items()
    ]
    async with Fleet(specs) as fleet:
        nodes = [node(name, one.port, metrics={"scrape": [{"port": one.port}]}) for name, one in fleet.nodes.items()]
        async with Stack(*nodes, policy("p", balance={"profile": "classic"})) as stack:
            end = time.monotonic() + 15
            while True:
                report = stack.reporter.reports.get()
                shown = {o.name: o.endpoints[0].score for o in report.objects if o.endpoints} if report else {}
                if len(shown) == 4 and all(
                    score is not None and abs(score - SCORES[name]) < 0.5 for name, score in shown.items()
                ):
                    break
                assert time.monotonic() < end, shown
                await asyncio.sleep(0.1)
            traffic = Traffic([stack.url], Question("m", stream=False), time.monotonic, random.Random(1))
            running = asyncio.create_task(traffic.run(Arrival(i / 60, 8, 8) for i in range(60 * 12)))
            await asyncio.sleep(9.0)
            fleet.nodes["node-3"].control({"down": True})
            records = await running
            assert records.counts["ok"] == 720, records.counts
            shares = records.shares(since=4.0, until=8.5)
            assert shares["node-2"] == min(shares.values()), shares
            assert shares["node-3"] >= shares["node-2"], shares
            for one in fleet.nodes.values():
                if not one.node.control.down:
                    one.control({"down": True})
            answered, *_ = await ask_who(stack)
            assert answered == 503


async def test_case_3_the_type_decides_first() -> None:
    kinds = {"node-1": "text", "node-2": "image", "node-3": "text", "node-4": "audio"}
    names = {"text": "chat", "image": "draw", "audio": "hear"}
    specs = [NodeSpec(name=n, models=((names[kinds[n]],) * 2,), zero=True) for n in CASE]
    async with Fleet(specs) as fleet:
        nodes = [
            node(
                n,
                one.port,
                models=[{"name": names[kinds[n]], "types": [kinds[n]]}],
                tier="high" if kinds[n] == "text" else "standard",
            )
            for n, one in fleet.nodes.items()
        ]
        async with Stack(*nodes) as stack, client(stack) as ask, aiohttp.ClientSession() as http:
            # Of each type there is one model: it needs no name. Only nodes of the type are asked, whatever their load.
            sound = aiohttp.FormData()
            sound.add_field("file", b"RIFF", filename="a.wav")
            for path, body, wanted in (
                ("/v1/images/generations", {"json": {"prompt": "a bridge"}}, {"node-2"}),
                ("/v1/audio/transcriptions", {"data": sound}, {"node-4"}),
                ("/v1/chat/completions", {"json": {"messages": HI}}, {"node-1", "node-3"}),
            ):
                async with http.post(stack.url + path, **body) as got:  # type: ignore[arg-type]
                    assert got.status == 200, await got.text()
                    assert got.headers["x-weighbridge-node"] in wanted
            with pytest.raises(openai.NotFoundError, match="Types served here: audio, image, text"):
                await ask.post("/videos", cast_to=object, body={"prompt": "x"})
            with pytest.raises(openai.NotFoundError, match=r"rerank requests[.] Served here: audio"):
                await ask.post("/rerank", cast_to=object, body={"query": "x", "documents": ["y"]})
            with pytest.raises(openai.NotFoundError, match=r"There are: chat\."):
                await ask.chat.completions.create(model="draw", messages=HI)
            with pytest.raises(openai.NotFoundError, match=r"There are: draw\."):
                await ask.images.generate(model="chat", prompt="x")
