"""The entrance end to end: the official client, the real Envoy, simulated nodes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from support.stack import Stack, node, policy
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    specs = [NodeSpec(name=name, models=(("m", "m"), ("e", "e")), zero=True) for name in "abc"]
    async with Fleet(specs) as fleet:
        yield fleet


def serve(fleet: Fleet, **spec: object) -> list[dict[str, object]]:
    models = [{"name": "m"}, {"name": "e", "types": ["embedding"]}]
    return [node(name, one.port, models=models, **spec) for name, one in fleet.nodes.items()]


async def post(stack: Stack, body: bytes | str, **headers: str) -> tuple[int, dict[str, Any]]:
    """One chat request with this very body. Header names are written with _ for -."""
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.post(f"{stack.url}/v1/chat/completions", data=body, headers=named) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


def client(stack: Stack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0)


async def test_the_official_client_chats_streams_embeds_and_lists(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack, client(stack) as ask:
        whole = await ask.chat.completions.create(model="m", messages=HI)
        assert whole.choices[0].message.content
        stream = await ask.chat.completions.create(
            model="m", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert chunks[-1].usage is not None
        legacy = await ask.completions.create(model="m", prompt="hi")
        assert legacy.choices[0].text
        embedded = await ask.embeddings.create(model="e", input=["a", "b"])
        assert len(embedded.data) == 2
        assert [model.id async for model in await ask.models.list()] == ["e", "m"]
        assert (await ask.models.retrieve("m")).id == "m"


async def test_what_nobody_serves_is_refused_and_named(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack, client(stack) as ask:
        with pytest.raises(openai.NotFoundError, match=r"The model nobody does not .* There are: m\.") as unknown:
            await ask.chat.completions.create(model="nobody", messages=HI)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError, match=r"embedding requests. There are: e\."):
            await ask.embeddings.create(model="m", input="x")
        with pytest.raises(openai.NotFoundError, match=r"The model nobody does not .* There are: e, m"):
            await ask.models.retrieve("nobody")
        with pytest.raises(openai.NotFoundError, match=r"image requests[.] Served here: embedding, text"):
            await ask.images.generate(model="m", prompt="x")
        requests = sum(one.state()["requests"].get("nobody", 0) for one in fleet.nodes.values())
        assert requests == 0


async def test_a_model_that_is_not_served_is_named_whatever_it_is(fleet: Fleet) -> None:
    names = [
        ("m@2025-11", "m@2025-11"),
        ("x" * 256, "x" * 256),
        ("x" * 300, "x" * 256 + "..."),
        ("x" * 5000, "x" * 256 + "..."),
        ('a","code":"b', "a?code?:?b"),
        ("\u6a21\u578b \x7f", "?"),
        ("meta-llama/Llama 3", "meta-llama/Llama?3"),
        ("%s%1{}[]", "?s?1?"),
    ]
    async with Stack(*serve(fleet)) as stack:
        for ascii_alone in (True, False):
            for name, told in names:
                body = json.dumps({"model": name, "messages": HI}, ensure_ascii=ascii_alone).encode()
                status, answer = await post(stack, body)
                assert status == 404
                # Written as an escape it is odd in another way, and named all the same.
                assert ascii_alone or answer["error"].pop("message").startswith(f"The model {told} does not exist")
                answer["error"].pop("message", None)
                rest = {"type": "invalid_request_error", "param": "model", "code": "model_not_found"}
                assert answer == {"error": rest}


async def test_a_version_that_is_not_served_is_told_with_those_that_are(fleet: Fleet) -> None:
    models = [{"name": "m", "version": "1"}, {"name": "m", "version": "2"}, {"name": "n"}]
    async with Stack(node("a", fleet.nodes["a"].port, models=models)) as stack, client(stack) as ask:
        with pytest.raises(openai.NotFoundError, match=r"The model m@3 does .* There are: m \(@1, @2\), n\."):
            await ask.chat.completions.create(model="m@3", messages=HI)


async def test_a_slash_at_the_end_of_a_path_is_told(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack, aiohttp.ClientSession() as http:
        for path in ("chat/completions", "audio/transcriptions", "messages"):
            async with http.post(f"{stack.url}/v1/{path}/", data=b"{}") as answer:
                assert answer.status == 404
                assert f"/v1/{path}, without the slash" in (await answer.json())["error"]["message"]


async def test_bad_requests_never_reach_a_node(fleet: Fleet) -> None:
    bodies: list[tuple[bytes, dict[str, str], int]] = [
        (b'{"model":"m"', {}, 400),
        (b"", {}, 400),
        (b"[]", {}, 400),
        (b'{"model":5}', {}, 400),
        (b'{"model":null}', {}, 400),
        (b'{"model":""}', {}, 400),
        (b'{"model":"m","stream":"yes"}', {}, 400),
        (b'{"model":"m","model":"m"}', {}, 400),
        (b'{"model":"m","a":1,"a":2}', {}, 400),
        (b'{"mod\\u0065l":"m"}', {}, 400),
        (b'{"model":"m","x":NaN}', {}, 400),
        (b'{"model":"m","x":"\xff"}', {}, 400),
        (b'{"model":"m","x":' + b"[" * 200 + b"]" * 200 + b"}", {}, 400),
        (b'{"model":"m","x":"' + b"a" * (20 << 20) + b'"}', {}, 413),
        (b'{"model":"m"}', {"content_type": "text/plain"}, 415),
        (b'{"model":"m"}', {"content_encoding": "gzip"}, 415),
    ]
    async with Stack(*serve(fleet)) as stack:
        for body, headers, status in bodies:
            answered, told = await post(stack, body, **headers)
            assert answered == status, (body[:40], told)
            error = told["error"]
            assert error["message"]
            assert error["code"]
            assert error["type"] == "invalid_request_error"
        assert all(sum(one.state()["requests"].values()) == 0 for one in fleet.nodes.values())


BODIES = (
    '{"model":"m","messages":[]}',
    '{"model":"m","messages":[],"stream":true}',
    '{"messages":[]}',
    '{"model":"nobody","messages":[]}',
    '{"model":7,"messages":[]}',
    '{"model":"","messages":[]}',
    '{"model":"m","model":"m"}',
    '{"model":"m","stream":1}',
    '{"model":',
    "",
)


@pytest.mark.parametrize("body", BODIES)
async def test_a_request_is_answered_alike_however_its_head_is_written(fleet: Fleet, body: str) -> None:
    """Usual requests have an entrance of their own; an unusual head, though right, takes the other."""
    unusual = {"content-type": "Application/JSON; charset=utf-8"}, {"x-weighbridge-hops": "another"}
    async with Stack(*serve(fleet)) as stack, aiohttp.ClientSession() as http:

        async def ask(path: str, **head: str) -> tuple[int, str, object]:
            async with http.post(f"{stack.url}/v1/{path}", data=body, headers=head) as answer:
                whole = await answer.read()
                return answer.status, answer.content_type, None if answer.ok else json.loads(whole)

        for path in ("chat/completions", "embeddings", "completions?a=b"):
            usual = await ask(path, **{"content-type": "application/json"})
            for head in unusual:
                assert await ask(path, **({"content-type": "application/json"} | head)) == usual


async def test_null_is_no_stream_and_what_looks_like_an_address_is_none(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack:
        status, answer = await post(
            stack, '{"model": "m", "stream": null, "messages": [{"role": "user", "content": "x"}]}'
        )
        assert (status, answer["object"]) == (200, "chat.completion")
        async with aiohttp.ClientSession() as http:
            for path, method, wanted in (
                ("/v1/chat/completions", "GET", 405),
                ("/v1/chat/completions?a=b", "GET", 405),
                ("/v1/chat/completionsX", "POST", 404),
                ("/v1/chat/completions/", "POST", 404),
            ):
                async with http.request(method, stack.url + path, json={"model": "m"}) as told:
                    assert told.status == wanted, path
                    assert (await told.json())["error"]["message"]


async def test_a_wrong_method_is_told_which_are_right(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack, aiohttp.ClientSession() as http:

        async def ask(method: str, path: str) -> tuple[int, list[str]]:
            async with http.request(method, stack.url + path, json={"model": 1}) as answer:
                return answer.status, answer.headers.getall("allow", [])

        for path in ("/v1/chat/completions", "/v1/chat/completions?a=b", "/v1/messages", "/v1/images/edits"):
            assert await ask("GET", path) == (405, ["POST"])
            assert await ask("POST", path) == (400, [])
        for path in ("/v1/models", "/v1/models/m", "/v1/models/z"):
            assert await ask("PUT", path) == (405, ["GET, HEAD"])
            assert (await ask("GET", path))[1] == []


async def test_models_are_renamed_for_each_node_also_on_a_retry() -> None:
    specs = [NodeSpec(name=name, models=((f"own-{name}", f"own-{name}"),), zero=True) for name in "ab"]
    async with Fleet(specs) as fleet:
        objects = [
            node(name, one.port, models=[{"name": "m", "servedAs": f"own-{name}"}]) for name, one in fleet.nodes.items()
        ]
        async with Stack(*objects) as stack:
            body = (
                '{ "seed": 12345678901234567890, "messages":[{"model":"x","role":"user","content":"hi"}],'
                ' "model" : "m"}'
            )
            seen: Counter[str] = Counter()
            for _ in range(40):
                status, answer = await post(stack, body)
                assert status == 200, answer
                seen[answer["model"]] += 1
            assert set(seen) == {"own-a", "own-b"}
            status, answer = await post(stack, body.replace('"m"', r'"\u006D"'))
            assert (status, answer.get("model") in seen) == (200, True), answer
            fleet.nodes["a"].control({"fail": 503})
            for _ in range(10):
                status, answer = await post(stack, body)
                assert (status, answer.get("model")) == (200, "own-b"), answer


async def test_a_query_that_looks_like_a_path_leads_nowhere_else() -> None:
    async with Fleet([NodeSpec(name="a", models=(("m", "m"),), base="/api/v3", zero=True)]) as fleet:
        address = {"host": "127.0.0.1", "port": fleet.nodes["a"].port, "path": "/api/v3"}
        async with Stack(node("a", 1, address=address)) as stack, aiohttp.ClientSession() as http:
            url = f"{stack.url}/v1/completions?x=/chat/completions"
            async with http.post(url, json={"model": "m", "prompt": "hi"}) as answer:
                assert (answer.status, (await answer.json())["object"]) == (200, "text_completion")


async def test_a_default_a_version_a_canary_and_a_fallback() -> None:
    specs = [
        NodeSpec(name="a", models=(("one", "one"), ("two", "two")), zero=True),
        NodeSpec(name="small", models=(("small", "small"),), zero=True),
    ]
    async with Fleet(specs) as fleet:
        big = node(
            "a",
            fleet.nodes["a"].port,
            models=[
                {"name": "m", "version": "1", "servedAs": "one"},
                {"name": "m", "version": "2", "servedAs": "two"},
            ],
        )
        small = node("small", fleet.nodes["small"].port, "small")
        rules = policy(
            "chat",
            match={"models": ["m"]},
            defaultModel="m",
            versions=[{"version": "1", "share": 80}, {"version": "2", "share": 20}],
            fallback=[{"model": "small"}],
        )
        async with Stack(big, small, rules) as stack, client(stack) as ask:
            seen: Counter[str] = Counter()
            for _ in range(200):
                seen[(await ask.chat.completions.create(model="m", messages=HI)).model] += 1
            assert 15 <= seen["two"] <= 70
            assert seen["one"] + seen["two"] == 200
            assert (await ask.chat.completions.create(model="m@2", messages=HI)).model == "two"
            _, none = await post(stack, json.dumps({"messages": HI}))
            assert none["model"] in ("one", "two")
            fleet.nodes["a"].control({"down": True})
            for _ in range(10):
                assert (await ask.chat.completions.create(model="m", messages=HI)).model == "small"
