"""A model server that keeps what it is asked, verbatim, and answers as the test says, byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Heard:
    """One request. Header names in lower case, in their order."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """As its head says; chunks put together, trailers left out."""
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body


Answer = Callable[[Heard, asyncio.StreamWriter], Awaitable[None]]


def whole(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """An answer in one piece, as it goes over the wire."""
    lines = [f"HTTP/1.1 {status} Told", "content-type: application/json", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def chat(heard: Heard, writer: asyncio.StreamWriter) -> None:
    """A small but complete chat answer."""
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    model = json.loads(heard.body)["model"]
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    writer.write(whole(200, json.dumps(answer).encode()))


def status(code: int, delay: float = 0.0, body: bytes = b"{}") -> Answer:
    """Always this status, after `delay` seconds."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay)
        writer.write(whole(code, body))

    return answer


class Witness:
    """`async with Witness() as node:` listens on `node.port`. Health checks are answered well and not kept."""

    def __init__(self, answer: Answer = chat) -> None:
        self.answer = answer
        self.heard: list[Heard] = []
        self.port = 0
        self.health_delay = 0.0  # seconds until a health check is answered
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Witness:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Listens no more and cuts every connection."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._exchange(reader, writer, first=True)
                while True:
                    await self._exchange(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bool = False) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if first and head[0].startswith("PRI "):
            # An Envoy of another test looks for the xDS server that had this port before.
            raise ConnectionAbortedError
        method, path, _ = head[0].split(" ", 2)
        pairs = [line.split(":", 1) for line in head[1:] if line]
        headers = tuple((name.lower(), value.strip()) for name, value in pairs)
        heard = Heard(method, path, headers, await _read_body(reader, dict(headers)))
        if path in ("/health", "/metrics"):
            await asyncio.sleep(self.health_delay if path == "/health" else 0.0)
            writer.write(whole(200 if path == "/health" else 404))
        else:
            self.heard.append(heard)
            await self.answer(heard, writer)
        await writer.drain()
