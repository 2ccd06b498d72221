"""Who says what no data plane says, or takes nothing of what he is told, is cut off; the others are not."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.company import Company
from weighbridge_dataplane.facts import Sent
from weighbridge_dataplane.peer_links import UNSENT, Mouth, Scene
from weighbridge_dataplane.peers import Peers
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.records import Records
from weighbridge_dataplane.words import Hello, print_hello, print_sent

HELLO = print_hello(Hello(b"p" * 16, b"e" * 16))
WORD = print_sent([Sent("127.0.0.1:1", 1, 1.0, 0.0)])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 3, "word"),
        (bytes(random.Random(1).randbytes(20_000)), "word"),
        (HELLO + b"\xff\xff\x02", "word"),
        (HELLO + WORD * 5000, "word"),
        (WORD * 5000, "word"),
        (HELLO + b"\0\0\x09" * 5000, "word"),
    ],
)
async def test_whoever_says_what_no_data_plane_says_is_cut_off(said: bytes, reason: str) -> None:
    records, pools = Records(), Pools(lambda pool: Chooser(random.random, pool=pool))
    peers = Peers(Hello(b"o" * 16, b"o" * 16), [], None, pools, records)
    port = peers.start("127.0.0.1", 0)
    running = asyncio.create_task(peers.run())
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(10):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(10_000)
        assert records.peer_refusals[reason] == 1
        writer.close()
        again, told = await asyncio.open_connection("127.0.0.1", port)
        assert (await again.readexactly(len(HELLO)))[3:14] == b"weighbridge"
        told.close()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_whoever_does_not_take_what_he_is_told_is_told_no_more() -> None:
    records = Records()
    scene = Scene(Company(Hello(b"o" * 16, b"o" * 16)), records, lambda _: None, lambda _: None)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        mouth = Mouth(scene, "x", lambda *_: None)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: mouth, *listening.getsockname())
        told = print_sent([Sent(f"10.0.0.{n}:8000", 1, 1.0, 0.0) for n in range(200)])
        for _ in range(20_000):
            mouth.tell(told)
            assert transport.get_write_buffer_size() <= UNSENT + len(told)
            if mouth.ended.is_set():
                break
        assert records.peer_refusals["slow"] == 1
