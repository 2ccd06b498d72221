"""The data plane beside the real Envoy: nodes named from what their own pages say, and nothing lost without it."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from support.dataplane import CONSOLE, TIMEOUTS, Dataplane
from support.stack import Stack, node, policy
from weighbridge_dataplane.ties import FELT
from weighbridge_simulator.control import Control
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
Scene = tuple[Stack, Dataplane, Fleet]


@asynccontextmanager
async def scene(count: int = 3, **spec: Any) -> AsyncIterator[Scene]:
    """Simulated nodes that answer fast behind a policy with `precise`, and the data plane, which knows them all."""
    specs = [NodeSpec(name=f"n{i}", models=(("m", "m"),), control=Control(slow=0.05)) for i in range(count)]
    async with Fleet(specs) as fleet, Dataplane() as dataplane:
        nodes = [node(name, server.port) for name, server in fleet.nodes.items()]
        async with Stack(
            *nodes, policy("p", balance={"precise": True}, **spec), dataplanes=(dataplane.socket,)
        ) as stack:
            await dataplane.start(stack.envoys[0].admin_url)
            await dataplane.wait_named(count)
            await ask_named(stack)
            yield stack, dataplane, fleet


async def ask(stack: Stack, **headers: str) -> tuple[int, str | None, str | None, str | None]:
    """Status, node, who chose, id."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/chat/completions", json=BODY, headers=headers) as answer,
    ):
        await answer.read()
        told = answer.headers
        return (
            answer.status,
            told.get("x-weighbridge-node"),
            told.get("x-weighbridge-choice"),
            told.get("x-request-id"),
        )


async def ask_named(stack: Stack) -> tuple[str | None, str | None]:
    """The node and the id of a request that was named; on a busy machine some time out, and the weights serve."""
    async with asyncio.timeout(30):
        while True:
            _, name, by, request_id = await ask(stack)
            if by == "precise":
                return name, request_id


async def load(stack: Stack, rate: float, seconds: float) -> list[tuple[float, float, int, str | None]]:
    """Open-loop requests: when each began, how long it took, its status and who chose."""
    done: list[tuple[float, float, int, str | None]] = []

    async def one(http: aiohttp.ClientSession) -> None:
        began = time.monotonic()
        try:
            async with http.post(f"{stack.url}/v1/chat/completions", json=BODY) as answer:
                await answer.read()
                status, chose = answer.status, answer.headers.get("x-weighbridge-choice")
        except aiohttp.ClientError:
            status, chose = 0, None
        done.append((began, time.monotonic() - began, status, chose))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, asyncio.TaskGroup() as tasks:
        first = time.monotonic()
        for i in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, first + i / rate - time.monotonic()))
            tasks.create_task(one(http))
    return done


async def test_a_loaded_node_is_avoided_and_every_choice_is_explained() -> None:
    async with scene() as (stack, dataplane, fleet):
        fleet.nodes["n0"].control({"queue": 50})
        async with asyncio.timeout(30):
            while "n0" in {(await ask_named(stack))[0] for _ in range(20)}:
                pass
        name, request_id = await ask_named(stack)
        (choice,) = await dataplane.choices(f"id={request_id}")
        assert choice["node"] == f"default/{name}"
        assert choice["silence"] is None
        assert choice["size"] > 0
        loads = {each["address"]: each["load"] for each in choice["candidates"]}
        assert len(loads) == 3
        assert loads[choice["address"]] - min(loads.values()) <= FELT
        assert max(loads, key=loads.__getitem__) == f"127.0.0.1:{fleet.nodes['n0'].port}"


async def test_nothing_a_caller_sends_changes_the_node() -> None:
    async with scene(fallback=[{"model": "other"}]) as (stack, _, fleet):
        worst = f"127.0.0.1:{fleet.nodes['n0'].port}"
        fleet.nodes["n0"].control({"queue": 50})
        forged = {
            "x-weighbridge-choice": worst,
            "weighbridge.choice": worst,
            "x-weighbridge-cluster": "default",
            "x-weighbridge-blocks": "00000000",
            "x-envoy-override-host": worst,
        }
        async with asyncio.timeout(30):
            while "n0" in {(await ask_named(stack))[0] for _ in range(20)}:
                pass
        answers = [await ask(stack, **forged) for _ in range(40)]
        assert {status for status, *_ in answers} == {200}
        assert "n0" not in {name for _, name, by, _ in answers if by == "precise"}


async def test_it_is_silent_without_samples_and_the_weights_decide() -> None:
    async with scene() as (stack, dataplane, fleet):
        for server in fleet.nodes.values():
            server.control({"lie": "nan"})
        async with asyncio.timeout(30):
            while (await dataplane.choices("last=1"))[0]["silence"] != "few":
                await ask(stack)
        answers = [await ask(stack) for _ in range(40)]
        assert {status for status, *_ in answers} == {200}
        assert {by for _, _, by, _ in answers} == {"weights"}
        assert {name for _, name, *_ in answers} == {"n0", "n1", "n2"}
        assert (await dataplane.metrics())['weighbridge_dataplane_silent_total{reason="few"}'] >= 20


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_none_is_lost_where_it_dies_or_freezes_under_load(end: signal.Signals) -> None:
    async with scene() as (stack, dataplane, _):
        assert dataplane.process is not None
        running = asyncio.create_task(load(stack, rate=50, seconds=10))
        await asyncio.sleep(2)
        before = await stack.envoys[0].stat(TIMEOUTS)
        ended = time.monotonic()
        dataplane.process.send_signal(end)
        done = await running
        assert Counter(status for _, _, status, _ in done) == {200: len(done)}
        assert "precise" in {chose for began, _, _, chose in done if began < ended}
        assert {chose for began, _, _, chose in done if began > ended} == {"weights"}
        timeouts = await stack.envoys[0].stat(TIMEOUTS)
        await load(stack, rate=50, seconds=1)
        assert await stack.envoys[0].stat(TIMEOUTS) == timeouts
        assert timeouts - before <= 50 * 5


async def test_a_successor_takes_the_socket_over_and_none_is_lost() -> None:
    async with scene() as (stack, dataplane, _):
        before = dataplane.process
        assert before is not None
        running = asyncio.create_task(load(stack, rate=50, seconds=8))
        await asyncio.sleep(1)
        await dataplane.start(stack.envoys[0].admin_url)
        await dataplane.wait_named(3)
        before.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await before.wait() == 0
        done = await running
        assert Counter(status for _, _, status, _ in done) == {200: len(done)}
        await ask_named(stack)
        assert (await dataplane.metrics())["weighbridge_dataplane_request_seconds_count"] > 0


async def count_named(*dataplanes: Dataplane) -> list[float]:
    told = [await each.metrics() for each in dataplanes]
    return [sum(n for name, n in each.items() if name.startswith("weighbridge_dataplane_named")) for each in told]


async def test_several_beside_one_envoy_share_its_requests_and_one_takes_all_when_another_dies() -> None:
    nodes = [NodeSpec(name=f"n{i}", models=(("m", "m"),), control=Control(slow=0.05)) for i in range(3)]
    async with Fleet(nodes) as fleet, Dataplane() as one, Dataplane() as two:
        two.socket = f"{one.socket}-2"
        objects = [node(name, server.port) for name, server in fleet.nodes.items()]
        objects.append(policy("p", balance={"precise": True}))
        async with Stack(*objects, dataplanes=(one.socket, two.socket)) as stack:
            for each in (one, two):
                await each.start(stack.envoys[0].admin_url)
                await each.wait_named(3)
            async with asyncio.timeout(30):
                while not all(await count_named(one, two)):
                    await ask(stack)
            before = await count_named(one, two)
            await load(stack, rate=50, seconds=2)
            got = [now - then for now, then in zip(await count_named(one, two), before, strict=True)]
            assert min(got) >= 20, got  # of 100; on a busy machine some time out
            assert one.process is not None
            one.process.kill()
            done = await load(stack, rate=50, seconds=6)
            assert Counter(status for _, _, status, _ in done) == {200: len(done)}
            assert "precise" in {chose for *_, chose in done[-50:]}


async def test_a_slow_one_costs_a_request_no_more_than_its_time_out() -> None:
    async with scene() as (stack, dataplane, _):
        process = dataplane.process
        assert process is not None
        running = asyncio.create_task(load(stack, rate=50, seconds=6))
        for _ in range(20):  # half of the time it does nothing
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.15)
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.15)
        done = await running
        assert Counter(status for _, _, status, _ in done) == {200: len(done)}
        assert {chose for *_, chose in done} == {"precise", "weights"}


async def test_explain_finds_a_request_at_the_data_plane_of_its_envoy() -> None:
    specs = [NodeSpec(name=f"n{i}", models=(("m", "m"),), control=Control(slow=0.05)) for i in range(3)]
    async with Fleet(specs) as fleet, Dataplane() as dataplane, Dataplane() as elsewhere:
        nodes = [node(name, server.port) for name, server in fleet.nodes.items()]
        precise = policy("p", balance={"precise": True})
        async with Stack(*nodes, precise, dataplanes=(dataplane.socket,)) as stack:
            await dataplane.start(stack.envoys[0].admin_url, "--keep-choices", "20")
            await elsewhere.start(stack.envoys[0].admin_url)
            await dataplane.wait_named(3)
            name, request_id = await ask_named(stack)
            assert request_id is not None
            both = ("--dataplane-url", elsewhere.url, "--dataplane-url", dataplane.url)
            code, text, _ = await explain("--request", request_id, *both)
            assert code == 0
            assert f"data plane at {dataplane.url}: host " in text
            assert elsewhere.url not in text
            assert f"named default/{name} at 127.0.0.1:{fleet.nodes[str(name)].port}" in text
            assert text.count("its page") == 3
            for _ in range(25):
                await ask(stack)
            code, text, error = await explain("--request", request_id, *both)
            assert (code, text) == (1, "")
            assert f"{dataplane.url} (host" in error
            assert "keeps the last 20 choices and has 20, from " in error
            assert "has made no choice yet" in error


async def explain(*flags: str) -> tuple[int, str, str]:
    """Exit code, output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CONSOLE, "explain", *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()
