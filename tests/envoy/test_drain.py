"""An Envoy that is told to end: what is under way is finished first, and its callers are told to go elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from support.stack import Stack, node
from support.witness import Heard, Witness, whole
from weighbridge_dataplane import drain
from weighbridge_dataplane.drain import Traffic

STARTED = ("--drain-time-s", "90000", "--drain-strategy", "immediate")  # as the chart starts it
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.envoy
async def test_a_stream_is_finished_and_callers_are_told_to_go() -> None:
    ended = asyncio.Event()

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await asyncio.wait_for(ended.wait(), 20)
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    async def quick(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(200, b"{}"))

    async with (
        Witness(answer) as slow,
        Witness(quick) as fast,
        Stack(
            node("a", slow.port),
            node("b", fast.port, models=[{"name": "quick"}]),
            arguments=STARTED,
        ) as stack,
        aiohttp.ClientSession() as http,
    ):
        url = f"{stack.url}/v1/chat/completions"
        async with http.post(url, json=CHAT | {"stream": True}) as stream:
            assert await stream.content.readexactly(9) == b"data: 1\n\n"
            draining = await _start(urlsplit(stack.envoys[0].admin_url).port)
            await _until_draining(http, url)
            await asyncio.sleep(1)
            assert draining.returncode is None, "it must wait for the stream"
            ended.set()
            assert await stream.content.read() == b"data: 2\n\n"
        assert await asyncio.wait_for(draining.wait(), 10) == 0


async def _start(port: int | None) -> asyncio.subprocess.Process:
    arguments = (drain.__file__, f"--admin-port={port}", "--settle=0.3", "--quiet=0.5")
    # As in Envoy's image: no package of ours, no site-packages.
    return await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", *arguments)


async def _until_draining(http: aiohttp.ClientSession, url: str) -> None:
    """A new caller is still answered, and told to close."""
    async with asyncio.timeout(10):
        while True:
            async with http.post(url, json=CHAT | {"model": "quick"}) as got:
                assert got.status == 200
                if got.headers.get("connection") == "close":
                    return


async def test_an_envoy_that_is_gone_is_not_waited_for() -> None:
    began = time.monotonic()
    draining = await _start(1)
    assert await asyncio.wait_for(draining.wait(), 10) == 0
    assert time.monotonic() - began < 5


def wait(*looks: tuple[int, int, int], settle: float = 1, quiet: float = 5) -> float:
    """Seconds that it waits, where it sees these one second apart, and the last for ever."""
    now = 0.0
    seen: Iterator[tuple[int, int, int]] = iter(looks)
    current = looks[0]

    def look() -> Traffic:
        nonlocal current
        current = next(seen, current)
        return Traffic(*current)

    def pause(_: float) -> None:
        nonlocal now
        now += 1

    drain.wait(look, settle, quiet, clock=lambda: now, pause=pause)
    return now


def test_it_gives_the_cluster_time_to_stop_sending() -> None:
    assert wait((0, 0, 0), settle=5) == 5


def test_it_waits_for_what_is_in_flight() -> None:
    assert wait((1, 1, 1), (1, 1, 1), (1, 1, 1), (0, 0, 1)) == 3


def test_idle_connections_are_given_some_seconds_and_no_more() -> None:
    assert wait((3, 0, 7), quiet=5) == 5
    assert wait((3, 0, 7), (3, 0, 7), (3, 0, 8), quiet=5) == 7


def test_numbers_are_read_by_their_names() -> None:
    page = "http.entrance.downstream_rq_total: 9\nhttp.entrance.downstream_cx_active: 2\nother: No recorded values\n"
    assert drain.read_traffic(page) == Traffic(connections=2, active=0, total=9)
