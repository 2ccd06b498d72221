"""A pool's only node: it is neither left out nor asked three times over, unless something is behind it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from support.stack import Stack, node, policy
from support.witness import Heard, Witness, chat, status, whole

pytestmark = pytest.mark.envoy
HI: list[Any] = [{"role": "user", "content": "hi"}]


async def ask(stack: Stack, model: str = "m", mode: str = "", stream: bool = False) -> tuple[int, str]:
    """Status and node. `mode` is for a node that answers `as_told`."""
    body = {"model": model, "messages": HI, "stream": stream}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/chat/completions", json=body, headers={"x-mode": mode}) as answer,
    ):
        await answer.read()
        return answer.status, answer.headers.get("x-weighbridge-node", "")


async def as_told(heard: Heard, writer: asyncio.StreamWriter) -> None:
    """Fails as the request's header says: "cut", or a status."""
    mode = (heard.header("x-mode") or [""])[0]
    if mode == "cut":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n")
        writer.close()
    elif mode:
        writer.write(whole(int(mode)))
    else:
        await chat(heard, writer)


@pytest.mark.parametrize("mode", ["502", "503", "504", "429", "500", "cut"])
async def test_what_one_request_provokes_takes_it_from_nobody_else(mode: str) -> None:
    async with Witness(as_told) as only, Stack(node("only", only.port, engine="openai")) as stack:
        for _ in range(8):
            assert (await ask(stack, mode=mode))[0] == (503 if mode == "cut" else int(mode))
            assert await ask(stack) == (200, "only")


async def test_its_answer_stands_and_a_lost_connection_is_tried_again() -> None:
    async with Witness(as_told) as only, Stack(node("only", only.port, engine="openai")) as stack:
        for mode, tries in (("503", 1), ("429", 1), ("504", 1), ("cut", 3)):
            only.heard.clear()
            await ask(stack, mode=mode)
            assert len(only.heard) == tries, mode


async def test_it_serves_as_soon_as_it_is_back() -> None:
    async with Witness() as only:
        port = only.port
        stack = await Stack(node("only", port, engine="openai")).__aenter__()
    try:
        for _ in range(5):
            assert (await ask(stack))[0] == 503
        server = await asyncio.start_server(Witness()._serve, "127.0.0.1", port)
        assert await ask(stack) == (200, "only")
        server.close()
    finally:
        await stack.stop()


async def test_a_stream_that_it_does_not_begin_is_not_asked_for_again() -> None:
    async def never(_: Heard, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    rules = policy("quick", timeouts={"total": "20s", "firstToken": "1s", "idle": "500ms"})
    async with Witness(never) as only, Stack(node("only", only.port, engine="openai"), rules) as stack:
        began = time.monotonic()
        assert (await ask(stack, stream=True))[0] == 504
        assert 0.9 < time.monotonic() - began < 2.4
        assert len(only.heard) == 1


async def test_with_another_model_behind_it_it_is_left_out() -> None:
    async with Witness(status(503)) as only, Witness() as small:
        nodes = [node("only", only.port, engine="openai"), node("small", small.port, "s", engine="openai")]
        rules = policy("chat", match={"models": ["m"]}, fallback=[{"model": "s"}])
        async with Stack(*nodes, rules) as stack:
            for _ in range(10):
                assert await ask(stack) == (200, "small")
            assert len(only.heard) < 10
            # The last of the chain is nobody's way to anything: it stays, whatever a request provokes there.
            small.answer = as_told
            for _ in range(5):
                assert (await ask(stack, "s", "503"))[0] == 503
                assert await ask(stack, "s") == (200, "small")


async def test_when_several_fail_at_once_half_of_them_are_still_asked() -> None:
    async with Witness(as_told) as a, Witness(as_told) as b:
        nodes = [node(name, one.port, engine="openai") for name, one in (("a", a), ("b", b))]
        async with Stack(*nodes) as stack:
            for _ in range(6):
                assert (await ask(stack, mode="503"))[0] == 503
            assert (await ask(stack))[0] == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_takes_longer_than_all_its_time_is_a_timeout(stream: bool) -> None:
    async def never(_: Heard, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    rules = policy("quick", timeouts={"total": "700ms"})
    body = {"model": "m", "messages": HI, "stream": stream}
    async with (
        Witness(never) as only,
        Stack(node("only", only.port), rules) as stack,
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/chat/completions", json=body) as answer,
    ):
        told = (await answer.json())["error"]
        assert (answer.status, told["code"], told["type"]) == (504, "timeout", "api_error")
