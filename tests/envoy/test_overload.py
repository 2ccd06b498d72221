"""An Envoy that is short of memory refuses in time: it stays within what it was given, and ends what it has begun."""

from __future__ import annotations

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from support.stack import Stack, node
from support.witness import Heard, Witness, status, whole

pytestmark = pytest.mark.envoy
MIB = 1 << 20
STORM = 60  # bodies at once
Told = tuple[int, str | None, str]


async def ask(http: aiohttp.ClientSession, stack: Stack, path: str, body: bytes) -> Told:
    """Status, Retry-After and body."""
    headers = {"content-type": "application/json"}
    async with http.post(stack.url + path, data=body, headers=headers) as answer:
        return answer.status, answer.headers.get("retry-after"), await answer.text()


def peak(stack: Stack) -> int:
    """Bytes that the Envoy had at most."""
    process = stack.envoys[0].process
    assert process is not None
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


async def test_a_storm_of_large_bodies_is_refused_and_what_waits_is_answered() -> None:
    release = asyncio.Event()

    async def wait(_: Heard, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(whole(200, b"{}"))

    small, large = b'{"model":"m"}', b'{"model":"m","x":"' + b"a" * (12 * MIB) + b'"}'
    async with (
        Witness(wait) as slow,
        Stack(
            node("a", slow.port, models=[{"name": "m", "servedAs": "longer"}]),
            memory=512 * MIB,
        ) as stack,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        waiting = [asyncio.create_task(ask(http, stack, "/v1/chat/completions", small)) for _ in range(20)]
        while len(slow.heard) < 20:  # noqa: ASYNC110  the witness tells no event
            await asyncio.sleep(0.01)
        storm = [asyncio.create_task(ask(http, stack, "/v1/chat/completions", large)) for _ in range(60)]
        done, _ = await asyncio.wait(storm, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert done, "nothing was refused"
        # What was let in before holds its body until it is answered.
        await asyncio.wait(storm, timeout=3)
        release.set()
        told = await asyncio.gather(*storm, return_exceptions=True)
        refused = [one for one in told if isinstance(one, tuple) and one[0] == 503]
        # A client that is still writing may see the connection's end before the answer.
        ended = [one for one in told if isinstance(one, aiohttp.ClientError | OSError)]
        assert refused, told
        assert len(refused) + len(ended) >= 20, told
        assert all(after == "2" for _, after, _ in refused)
        assert json.loads(refused[0][2])["error"]["code"] == "gateway_overloaded"
        assert [one[0] for one in await asyncio.gather(*waiting)] == [200] * 20
        # Without a bound it is above 1 GiB.
        assert peak(stack) <= 512 * MIB
        async with asyncio.timeout(20):
            while (await ask(http, stack, "/v1/chat/completions", small))[0] != 200:  # noqa: ASYNC110  a metric
                await asyncio.sleep(0.1)


async def test_bodies_that_come_all_at_once_stay_within_the_memory() -> None:
    # Each connection brings what its client can write before Envoy next looks at its memory.
    mark = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    sound = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + b"a" * (24 * MIB)
    form = ("/v1/audio/transcriptions", b"multipart/form-data; boundary=b", mark + sound + b"\r\n--b--\r\n")
    plain = ("/v1/chat/completions", b"application/json", b'{"model":"m","x":"' + b"a" * (15 * MIB) + b'"}')
    spec: dict[str, object] = {"models": [{"name": "m", "servedAs": "longer", "types": ["text", "audio"]}]}
    async with (
        Witness(status(200, 1.0)) as slow,
        Stack(node("a", slow.port, **spec), memory=512 * MIB, concurrency=2) as stack,
    ):
        for path, kind, body in (form, plain):
            with ThreadPoolExecutor(STORM) as threads:
                loop = asyncio.get_running_loop()
                sent = (loop.run_in_executor(threads, send, stack.port, path, kind, body) for _ in range(STORM))
                told = await asyncio.gather(*sent)
            assert {answer[9:12] for answer in told} <= {b"200", b"503", b""}, told
            assert peak(stack) <= 512 * MIB


def send(port: int, path: str, kind: bytes, body: bytes) -> bytes:
    """The beginning of the answer; nothing where the connection ended before it. It writes as fast as it can."""
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with suppress(ConnectionError):
            connection.sendall(head % (path.encode(), kind, len(body)))
            connection.sendall(body)
        with suppress(ConnectionError):
            return connection.recv(64)
    return b""
