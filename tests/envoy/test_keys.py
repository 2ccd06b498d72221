"""Callers' keys on the real Envoy: who is let in, what nodes and the outside see of it, and changes under streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import openai
import pytest
from google.protobuf import json_format

from support.envoy import RealEnvoy
from support.scene import Scene, wait_for
from support.stack import Stack, node, secret
from support.witness import Heard, Witness, whole
from weighbridge_operator.xds.keys import FILTER, ask_for_keys, let_in
from weighbridge_operator.xds.kinds import CLUSTER, ROUTE
from weighbridge_operator.xds.names import CLIENT_HEADER, HOPS_HEADER, OWN_HEADERS
from weighbridge_operator.xds.recall import recall_over

pytestmark = pytest.mark.envoy
HI: list[Any] = [{"role": "user", "content": "hi"}]
ALICE, BOB = "sk-alice-8Hq2Zt", "sk-bob-41=/+~x"
ANSWER = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}).encode()


async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(200, ANSWER))


def ask(stack: Stack, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)


async def chat(stack: Stack, key: str) -> None:
    async with ask(stack, key) as client:
        await client.chat.completions.create(model="m", messages=HI)


async def test_whose_key_is_known_is_let_in_and_nobody_else() -> None:
    async with Witness(answer) as witness:
        objects = node("a", witness.port), secret("callers", alice=ALICE, bob=f"{BOB}\n")
        async with Stack(*objects, keys="callers") as stack:
            await chat(stack, ALICE)
            await chat(stack, BOB)
            served = len(witness.heard)
            for wrong in ("sk-nobody", "alice", ALICE[:-1], f"{ALICE}x", "[redacted]"):
                with pytest.raises(openai.AuthenticationError, match="not known here") as refused:
                    await chat(stack, wrong)
                assert refused.value.code == "invalid_api_key"
                assert refused.value.type == "invalid_request_error"
                assert refused.value.response.headers["www-authenticate"] == "Bearer"
            async with ask(stack, "sk-nobody") as client:
                with pytest.raises(openai.AuthenticationError):
                    await client.models.list()
                with pytest.raises(openai.AuthenticationError):
                    await client.embeddings.create(model="m", input="x")
                with pytest.raises(openai.AuthenticationError):
                    await client.chat.completions.create(model="nobody", messages=HI)
            async with ask(stack, ALICE) as client:
                assert [model.id async for model in await client.models.list()] == ["m"]
            async with aiohttp.ClientSession() as http:
                for path in ("/v1/models", "/v1/models/m", "/", "/v1/images/generations"):
                    async with http.get(stack.url + path) as got:
                        told = await got.json()
                        assert (got.status, told["error"]["code"]) == (401, "missing_api_key"), path
                basic = {"authorization": "Basic " + ALICE}
                async with http.get(f"{stack.url}/v1/models", headers=basic) as got:
                    assert got.status == 401
            assert len(witness.heard) == served


async def test_a_scheme_is_understood_as_people_write_it_and_else_told() -> None:
    async with Witness(answer) as witness:
        objects = node("a", witness.port), secret("callers", alice=ALICE)
        async with Stack(*objects, keys="callers") as stack, aiohttp.ClientSession() as http:
            body, url = {"model": "m", "messages": HI}, f"{stack.url}/v1/chat/completions"
            async with http.post(url, json=body, headers={"authorization": f"bearer {ALICE}"}) as got:
                assert got.status == 200
            (heard,) = witness.heard
            assert ALICE not in str(heard.headers)
            odd, unknown = "Write the scheme before the key as Bearer or bearer.", "This API key is not known here."
            tried = {f"BEARER {ALICE}": odd, f"BeaReR {ALICE}": odd, f"Token {ALICE}": unknown, "bearer sk-no": unknown}
            for sent, told in tried.items():
                async with http.post(url, json=body, headers={"authorization": sent}) as got:
                    error = (await got.json())["error"]
                    assert (got.status, error["code"], error["message"]) == (401, "invalid_api_key", told)


async def test_a_refusal_comes_before_the_body_is_read() -> None:
    async with (
        Witness(answer) as witness,
        Stack(node("a", witness.port), secret("callers", alice=ALICE), keys="callers") as stack,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: 1000000\r\n\r\n{")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        assert b" 401 " in head
        writer.close()


async def test_no_key_and_no_client_reaches_a_node_or_can_be_claimed() -> None:
    async with Witness(answer) as witness:
        objects = node("a", witness.port), secret("callers", alice=ALICE)
        async with Stack(*objects, keys="callers") as stack, aiohttp.ClientSession() as http:
            body = {"model": "m", "messages": HI}
            claimed = {"authorization": f"Bearer {ALICE}", "x-weighbridge-client": "root", "x-api-key": ALICE}
            async with http.post(f"{stack.url}/v1/chat/completions", json=body, headers=claimed) as got:
                assert got.status == 200
            (heard,) = witness.heard
            assert ALICE not in str(heard.headers)
            names = {name.lower() for name, _ in heard.headers}
            assert "authorization" not in names
            assert {name for name in names if name.startswith("x-weighbridge")} <= {HOPS_HEADER}


async def test_filters_behind_it_see_whose_key_it_was_and_not_the_key(
    start_envoy: Callable[..., Awaitable[RealEnvoy]],
) -> None:
    shown = [
        {"header": {"key": name, "value": f"%REQ({header})%"}}
        for name, header in (("whose", CLIENT_HEADER), ("key", "authorization"))
    ]
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}, "response_headers_to_add": shown}
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": [route],
        "typed_per_filter_config": {FILTER: json_format.MessageToDict(let_in([("alice", ALICE)]))},
    }
    kinds = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [host], "internal_only_headers": list(OWN_HEADERS)},
        "http_filters": [
            ask_for_keys(always=True),
            {"name": "router", "typed_config": {"@type": f"{kinds}.http.router.v3.Router"}},
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "front", "address": address, "filter_chains": [chain]}
    envoy = await start_envoy({"static_resources": {"listeners": [listener]}})
    headers = {"authorization": f"Bearer {ALICE}", CLIENT_HEADER: "root"}
    url = f"http://127.0.0.1:{await envoy.listener_port()}/"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as got:
        assert (got.status, got.headers.getall("whose"), got.headers.get("key")) == (200, ["alice"], None)


async def test_keys_are_in_no_dump_statistic_report_or_log(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        Witness(answer) as witness,
        Stack(node("a", witness.port), secret("callers", alice=ALICE), keys="callers") as stack,
    ):
        await chat(stack, ALICE)
        with pytest.raises(openai.AuthenticationError):
            await chat(stack, "sk-strange-key")
        (envoy,) = stack.envoys
        dump = await envoy.admin("/config_dump?include_eds")
        assert "[redacted]" in dump
        told = [dump, await envoy.admin("/stats"), await envoy.admin("/clusters"), envoy.log, caplog.text]
        told += [str(stack.reporter.build()), repr(stack.loop.doors), str(stack.server.states.get())]
        for text in told:
            assert ALICE not in text
            assert "sk-strange-key" not in text


async def streams(stack: Stack, count: int) -> list[Any]:
    """So many streams that have begun."""
    client = ask(stack, ALICE)
    begun = [await client.chat.completions.create(model="m", messages=HI, stream=True) for _ in range(count)]
    for one in begun:
        await anext(aiter(one))
    return begun


async def test_changes_of_keys_cut_no_stream_and_replace_no_listener() -> None:
    release = asyncio.Event()

    async def slow(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        part = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await writer.drain()
        await release.wait()
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async with Witness(slow) as witness:
        one = node("a", witness.port)
        async with Stack(one, secret("callers", alice=ALICE, bob=BOB), keys="callers") as stack:
            begun = await streams(stack, 50)
            (envoy,) = stack.envoys
            before = await envoy.stat("listener_manager.listener_modified")
            for number in range(5):
                await stack.apply(one, secret("callers", alice=ALICE, **{f"c{number}": f"sk-{number}-abcdef"}))
                async with ask(stack, f"sk-{number}-abcdef") as client:
                    await client.models.list()
            # Even her own key is gone: what is under way goes on, what is new is not let in.
            await stack.apply(one, secret("callers", carol="sk-carol-1"))
            async with ask(stack, ALICE) as client:
                with pytest.raises(openai.AuthenticationError):
                    await client.models.list()
            release.set()
            for each in begun:
                assert len([chunk async for chunk in each]) == 1
            assert await envoy.stat("listener_manager.listener_modified") == before
            assert await envoy.stat("http.entrance.downstream_rq_rx_reset") == 0


class KeyedScene(Scene):
    """A scene whose callers need a key."""

    operator_flags = ("--keys-secret", "callers")

    def objects(self) -> list[dict[str, Any]]:
        return [*super().objects(), secret("callers", alice=ALICE)]

    async def answers(self, model: str = "m") -> bool:
        body, headers = {"model": model, "messages": HI}, {"authorization": f"Bearer {ALICE}"}
        with suppress(aiohttp.ClientError):
            async with self.http.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as got:
                return got.status == 200
        return False

    async def holds(self, nodes: int) -> bool:
        """Whether the Envoy holds a configuration with so many nodes."""
        with suppress(aiohttp.ClientError):
            async with self.http.get(f"http://127.0.0.1:{self.admin}/status") as got:
                told = await got.json()
                found = [one for one in told["objects"] if one["kind"] == "ModelNode"]
                return [envoy["current"] for envoy in told["envoys"]] == [True] and len(found) == nodes
        return False


async def test_objects_change_while_the_operator_is_away_and_no_caller_with_a_key_is_lost() -> None:
    async with KeyedScene() as scene:
        lost: list[bool] = []

        async def call() -> None:
            while True:
                lost.append(not await scene.answers())
                await asyncio.sleep(0.01)

        callers = [asyncio.create_task(call()) for _ in range(10)]
        await wait_for(lambda: scene.holds(3))
        await scene.operator.kill()
        # Other nodes are another cluster; the old routes, whose keys nobody can ask back, lead to the old one.
        scene.write(*scene.objects()[1:])
        await scene.start_operator()
        await wait_for(lambda: scene.holds(2))
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert len(lost) > 50
        assert sum(lost) == 0


async def test_a_restarted_operator_sends_no_redacted_key_and_keeps_what_serves() -> None:
    async with (
        Witness(answer) as witness,
        Stack(node("a", witness.port), secret("callers", alice=ALICE), keys="callers") as stack,
    ):
        async with aiohttp.ClientSession() as http:
            memory = await recall_over(http)(stack.envoys[0].admin_url)
        assert memory is not None
        assert ROUTE not in memory.held
        assert [route.name for route in memory.perhaps] == ["entrance"]
        assert {need for route in memory.perhaps for need in route.needs} >= {
            (CLUSTER, name) for name in memory.held[CLUSTER]
        }


async def test_a_missing_secret_lets_nobody_in_and_one_that_goes_keeps_its_keys() -> None:
    async with Witness(answer) as witness:
        one = node("a", witness.port)
        async with Stack(one, keys="callers") as stack:
            with pytest.raises(openai.AuthenticationError):
                await chat(stack, ALICE)
            (problem,) = stack.reporter.build().problems
            assert "Secret default/callers (--keys-secret): there is no such Secret" in problem
            await stack.apply(one, secret("callers", alice=ALICE, bob="", carol="two words", dave=ALICE))
            await chat(stack, ALICE)
            told = stack.reporter.build().problems
            assert [text.partition(": ")[2] for text in told] == [
                "entry bob is empty; it lets nobody in",
                "entry carol must be one line of printable ASCII without blanks; it lets nobody in",
                "entry dave has the same key as alice; it lets nobody in",
            ]
            await stack.apply(one)
            await chat(stack, ALICE)
            assert "last known keys stay good" in stack.reporter.build().problems[0]
