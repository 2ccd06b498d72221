"""What callers get when nodes fail, stay silent or are not there: another node's answer, or one clear error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import openai
import pytest

from support.stack import Stack, node, policy
from support.witness import Heard, Witness, chat, status
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
HI: list[Any] = [{"role": "user", "content": "hi"}]


def client(stack: Stack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0)


async def never(_: Heard, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def reach(condition: Callable[[], bool], limit: float = 5.0) -> None:
    """Waits until it holds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def ask_raw(stack: Stack, *, path: str = "/v1/chat/completions", method: str = "POST") -> tuple[int, dict]:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"{stack.url}{path}", json={"model": "m", "messages": HI}) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_envoys_own_refusals_have_openais_shape() -> None:
    async with Witness() as witness, Stack(node("a", witness.port)) as stack:
        for path, method, answered, code in (
            ("/v1/nothing", "POST", 404, "unknown_path"),
            ("/v1/chat/completions", "GET", 405, "method_not_allowed"),
            ("/v1/models", "POST", 405, "method_not_allowed"),
            ("/v1/models/m", "DELETE", 405, "method_not_allowed"),
            ("/v1/embeddings", "POST", 404, "type_not_served"),
        ):
            got, told = await ask_raw(stack, path=path, method=method)
            assert (got, told["error"]["code"]) == (answered, code)
            assert told["error"]["type"] == "invalid_request_error"
        assert witness.heard == []


BROKEN = {
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "no HTTP": (b"hello\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "too many headers": (
        b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"a%d: b\r\n" % i for i in range(120)) + b"\r\n",
        431,
    ),
    "large headers": (b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
    "upgrade": (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 403),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 404),
    "old": (b"GET /v1/models HTTP/1.0\r\n\r\n", 426),
}


async def test_broken_http_is_refused_in_openais_shape_and_reaches_no_node() -> None:
    async with Witness() as witness, Stack(node("a", witness.port)) as stack:
        for name, (request, answered) in BROKEN.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
            writer.write(request)
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readuntil(b"\n")
            writer.close()
            assert int(head.split()[1]) == answered, name
            assert b"content-type: application/json" in head, name
            assert body.startswith(b'{"error":{"code":'), name
        assert witness.heard == []


async def test_no_healthy_node_is_503() -> None:
    async with Fleet([NodeSpec(name="a", models=(("m", "m"),), zero=True)]) as fleet:
        port = fleet.nodes["a"].port
        fleet.nodes["a"].control({"down": True})
        await asyncio.sleep(0)
        async with Stack(node("a", port)) as stack, client(stack) as ask:
            with pytest.raises(openai.InternalServerError, match="No node that can serve this") as unhealthy:
                await ask.chat.completions.create(model="m", messages=HI)
            assert (unhealthy.value.status_code, unhealthy.value.code) == (503, "no_node_available")


async def test_nodes_that_nobody_checks_fail_after_retries() -> None:
    async with Witness() as gone:
        port = gone.port
    nodes = [node(name, port, engine="openai") for name in "ab"]
    async with Stack(*nodes) as stack, client(stack) as ask:
        with pytest.raises(openai.InternalServerError, match="failed before it answered") as refused:
            await ask.chat.completions.create(model="m", messages=HI)
        assert (refused.value.status_code, refused.value.code) == (503, "node_failed")


async def test_no_gateway_is_a_connection_error() -> None:
    async with Witness() as gone:
        port = gone.port
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as ask:
        with pytest.raises(openai.APIConnectionError):
            await ask.chat.completions.create(model="m", messages=HI)


async def test_what_every_node_answers_is_passed_on() -> None:
    body = b'{"error":{"message":"as the node says","type":"x","param":null,"code":"its-own"}}'
    async with AsyncExitStack() as running:
        nodes = {name: await running.enter_async_context(Witness()) for name in "abc"}
        stack = await running.enter_async_context(Stack(*(node(name, one.port) for name, one in nodes.items())))
        ask = await running.enter_async_context(client(stack))
        for code, kind, tries in (
            (500, openai.InternalServerError, 1),
            (400, openai.BadRequestError, 1),
            (401, openai.AuthenticationError, 1),
            (429, openai.RateLimitError, 3),
            (502, openai.InternalServerError, 3),
            (503, openai.InternalServerError, 3),
        ):
            for one in nodes.values():
                one.answer = status(code, body=body)
                one.heard.clear()
            with pytest.raises(kind, match="as the node says") as passed:
                await ask.chat.completions.create(model="m", messages=HI)
            assert (passed.value.status_code, passed.value.code) == (code, "its-own")
            heard = [len(one.heard) for one in nodes.values()]
            assert (sum(heard), max(heard)) == (tries, 1), code


async def test_one_good_node_of_three_answers_everybody() -> None:
    async with Witness(status(503)) as a, Witness(status(429)) as b, Witness() as c:
        nodes = [node(name, one.port) for name, one in (("a", a), ("b", b), ("c", c))]
        async with Stack(*nodes) as stack, client(stack) as ask:
            for _ in range(30):
                assert (await ask.chat.completions.create(model="m", messages=HI)).model == "m"


async def test_attempts_of_zero_is_one_try() -> None:
    async with Witness(status(503)) as a, Witness(status(503)) as b:
        rules = policy("once", retry={"attempts": 0})
        async with Stack(node("a", a.port), node("b", b.port), rules) as stack, client(stack) as ask:
            with pytest.raises(openai.InternalServerError):
                await ask.chat.completions.create(model="m", messages=HI)
            assert len(a.heard) + len(b.heard) == 1


async def test_retries_stay_within_their_budget() -> None:
    async with Witness(status(429, 0.3)) as a, Witness(status(429, 0.3)) as b:
        rules = policy("frugal", retry={"attempts": 5, "budget": "10%"})
        async with Stack(node("a", a.port), node("b", b.port), rules) as stack, client(stack) as ask:
            asked = [ask.chat.completions.create(model="m", messages=HI) for _ in range(150)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, openai.RateLimitError) for answer in answers)
            tries = len(a.heard) + len(b.heard)
            # Some 15 retries at once; without the budget there would be 750 of them.
            assert 150 < tries < 260, tries


async def test_all_that_lay_on_a_dead_node_of_three_is_asked_again() -> None:
    """As much as each of the others holds: a retry counts against the budget until it is answered."""
    release = asyncio.Event()

    async def held(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await chat(heard, writer)

    async with Witness(held) as a, Witness(held) as b, AsyncExitStack() as dies:
        c = await dies.enter_async_context(Witness(held))
        nodes = [node(name, one.port) for name, one in (("a", a), ("b", b), ("c", c))]
        async with Stack(*nodes) as stack, client(stack) as ask, asyncio.TaskGroup() as tasks:
            asked = []
            for number in range(90):
                asked.append(tasks.create_task(ask.chat.completions.create(model="m", messages=HI)))
                await reach(lambda number=number: len(a.heard) + len(b.heard) + len(c.heard) > number)
            assert len(c.heard) > 20
            await dies.aclose()
            await reach(lambda: len(a.heard) + len(b.heard) == 90)
            release.set()
        assert {answer.result().model for answer in asked} == {"m"}


async def test_an_answer_in_one_piece_has_only_the_total() -> None:
    rules = policy("quick", timeouts={"total": "1s", "firstToken": "100ms", "idle": "100ms"})

    async def late(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        await chat(heard, writer)

    async with Witness(late) as witness, Stack(node("a", witness.port), rules) as stack, client(stack) as ask:
        assert (await ask.chat.completions.create(model="m", messages=HI)).model == "m"
        witness.answer = never
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError, match="did not answer in time") as late_answer:
            await ask.chat.completions.create(model="m", messages=HI)
        assert (late_answer.value.status_code, late_answer.value.code) == (504, "timeout")
        assert 0.9 < time.monotonic() - began < 1.6


async def test_a_stream_that_does_not_begin_is_tried_elsewhere_and_then_504() -> None:
    rules = policy("quick", timeouts={"total": "10s", "firstToken": "300ms", "idle": "300ms"}, retry={"attempts": 1})
    async with (
        Witness(never) as a,
        Witness(never) as b,
        Stack(node("a", a.port), node("b", b.port), rules) as stack,
        client(stack) as ask,
    ):
        with pytest.raises(openai.InternalServerError, match="did not answer in time") as late:
            await ask.chat.completions.create(model="m", messages=HI, stream=True)
        assert (late.value.status_code, late.value.code) == (504, "timeout")
        assert (len(a.heard), len(b.heard)) == (1, 1)
        b.answer = chat
        a.heard.clear()
        for _ in range(20):
            stream = await ask.chat.completions.with_raw_response.create(model="m", messages=HI, stream=True)
            assert stream.status_code == 200
            if a.heard:
                break
        assert a.heard


@pytest.mark.parametrize("chunks", [0, 2])
async def test_a_stream_that_falls_silent_ends_with_an_error_not_with_a_complete_look(chunks: int) -> None:
    async def fall_silent(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + b"a\r\ndata: {}\n\n\r\n" * chunks)
        await asyncio.sleep(60)

    rules = policy("quick", timeouts={"total": "20s", "firstToken": "300ms", "idle": "300ms"})
    async with Witness(fall_silent) as one, Stack(node("a", one.port), rules) as stack, client(stack) as ask:
        began = time.monotonic()
        raised: Exception | None = None
        try:
            stream = await ask.chat.completions.create(model="m", messages=HI, stream=True)
            _ = [chunk async for chunk in stream]
        except Exception as error:
            raised = error
        assert raised is not None
        # Envoy closes the connection a second after it gave up.
        assert time.monotonic() - began < 2 * 0.3 + 0.5 + 1.0 + 0.5


async def test_a_stream_longer_than_the_total_is_cut() -> None:
    async def drip(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        while True:
            writer.write(b"a\r\ndata: {}\n\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    rules = policy("quick", timeouts={"total": "700ms", "firstToken": "300ms", "idle": "300ms"})
    async with (
        Witness(drip) as witness,
        Stack(node("a", witness.port), rules) as stack,
        aiohttp.ClientSession() as http,
    ):
        began = time.monotonic()
        body = {"model": "m", "messages": HI, "stream": True}
        async with http.post(f"{stack.url}/v1/chat/completions", json=body) as answer:
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        assert 0.6 < time.monotonic() - began < 2.5


async def test_a_client_that_goes_away_ends_the_nodes_work() -> None:
    async with Fleet([NodeSpec(name="a", models=(("m", "m"),))]) as fleet:
        one = fleet.nodes["a"]
        async with Stack(node("a", one.port)) as stack, client(stack) as ask:
            long = {"x-sim-answer": "2000"}
            stream = await ask.chat.completions.create(model="m", messages=HI, stream=True, extra_headers=long)
            await anext(aiter(stream))
            await stream.close()
            asking = asyncio.create_task(ask.chat.completions.create(model="m", messages=HI, extra_headers=long))
            await reach(lambda: one.state()["cancelled"] == 1)
            await reach(lambda: one.state()["running"] == 1)
            asking.cancel()
            await reach(lambda: one.state()["cancelled"] == 2)
            assert (one.state()["running"], one.state()["waiting"]) == (0, 0)
