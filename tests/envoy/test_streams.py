"""What passes through the entrance unchanged: bodies, headers of answers, streams chunk by chunk."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from support.stack import Stack, node
from support.witness import Heard, Witness, whole

pytestmark = pytest.mark.envoy
HI: list[Any] = [{"role": "user", "content": "hi"}]
CHUNKS = [
    b'data: {"id":"1","choices":[{"delta":{"content":"h\xc3\xa9"}}],  "big":12345678901234567890}\n\n',
    b": a comment, which proxies like to drop\n\n",
    b"event: odd\r\nid: 7\r\ndata: {\r\n",
    b"\r\n",
    b'data: {"id":"1","choices":[],"usage":{"total_tokens":9}}\n\ndata: [DONE]\n\n',
]


@pytest.mark.parametrize("served", ["m", "own"])
async def test_streams_pass_untouched_and_unbuffered(served: str) -> None:
    arrived = asyncio.Event()

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n")
        writer.write(b"transfer-encoding: chunked\r\nx-own: kept\r\n\r\n")
        for chunk in CHUNKS:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            # The next is produced only when the client has this one.
            await asyncio.wait_for(arrived.wait(), 5)
            arrived.clear()
        writer.write(b"0\r\n\r\n")

    async with Witness(answer) as witness:
        one = node("a", witness.port, models=[{"name": "m", "servedAs": served}])
        async with Stack(one) as stack, aiohttp.ClientSession() as http:
            body = {"model": "m", "messages": HI, "stream": True}
            async with http.post(f"{stack.url}/v1/chat/completions", json=body) as got:
                assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
                assert got.headers["x-own"] == "kept"
                for chunk in CHUNKS:
                    async with asyncio.timeout(5):
                        assert await got.content.readexactly(len(chunk)) == chunk
                    arrived.set()
                assert await got.content.read() == b""


async def test_a_whole_answer_passes_untouched() -> None:
    told = b'{ "z":1, "a":12345678901234567890,\n "model" : "m", "x":"\\u00e9" }'

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(200, told, "x-own: kept"))

    async with Witness(answer) as witness, Stack(node("a", witness.port)) as stack, aiohttp.ClientSession() as http:
        asked = b'{ "messages":[{"role":"user","content":"\\u00e9"}] , "model":"m","seed":12345678901234567890 }'
        headers = {"content-type": "application/json; charset=utf-8"}
        async with http.post(f"{stack.url}/v1/chat/completions", data=asked, headers=headers) as got:
            assert await got.read() == told
            assert got.headers["x-own"] == "kept"
            assert got.headers["x-weighbridge-node"] == "a"
        assert witness.heard[0].body == asked
