"""What a request that waits for its answer costs Envoy in memory: as many at once as are asked for, by size of body.

Run from the repository's root: `PYTHONPATH=tests python bench/open_requests.py [--requests 2000] [--body 1 100]`. The
node takes requests and never answers; every request has a connection of its own, as HTTP/1.1 clients have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from support.stack import Stack, node, policy

LIMIT = 120.0  # seconds for all requests to reach the node
PATIENT = policy("patient", timeouts={"firstToken": "1h", "idle": "1h", "total": "2h"})


class SilentNode:
    """Reads requests, counts them when the last byte is there, says nothing."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.waiting = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(self._size)
            self.waiting += 1
            await reader.read()
        writer.close()


def make_body(size: int) -> bytes:
    """A chat request of so many bytes."""
    empty = len(json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": ""}]}))
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * (size - empty)}]}
    return json.dumps(asked).encode()


def read_memory(process: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(count: int, size: int) -> tuple[int, int]:
    """Envoy's memory before and with the requests open, in bytes."""
    silent, body = SilentNode(size), make_body(size)
    async with AsyncExitStack() as running:
        server = await running.enter_async_context(
            await asyncio.start_server(silent.serve, "127.0.0.1", 0, limit=1 << 17)
        )
        port = server.sockets[0].getsockname()[1]
        stack = await running.enter_async_context(Stack(node("a", port, engine="openai"), PATIENT))
        envoy = stack.envoys[0].process
        assert envoy is not None
        before = read_memory(envoy.pid)
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            f"content-length: {size}\r\n\r\n"
        )
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
            running.callback(writer.close)
            writer.write(head.encode() + body)
        async with asyncio.timeout(LIMIT):
            while silent.waiting < count:  # noqa: ASYNC110  the node tells no event
                await asyncio.sleep(0.05)
        return before, read_memory(envoy.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--body", type=int, nargs="+", default=[1, 100], metavar="KB")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{given.requests} requests open at once, one worker\n")
    print(f"{'body KB':>8}{'before MB':>11}{'open MB':>9}{'KB each':>9}")
    for size in given.body:
        before, after = asyncio.run(measure(given.requests, size * 1000))
        each = (after - before) / given.requests / 1000
        print(f"{size:8}{before / 1e6:11.0f}{after / 1e6:9.0f}{each:9.0f}", flush=True)


if __name__ == "__main__":
    main()
