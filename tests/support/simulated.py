"""Talking to one simulated node in bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from weighbridge_simulator.server import NodeServer


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that must come soon."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  the node tells nobody
            await asyncio.sleep(0.002)


async def exchange(node: NodeServer, text: str) -> tuple[bytes, bytes]:
    """Send bytes, read until the server closes; the head and the rest."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(text.replace("\n", "\r\n").encode())
    answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head, rest


def post(body: dict[str, object], headers: str = "") -> str:
    text = json.dumps(body)
    length = f"content-length: {len(text)}\n"
    return f"POST /v1/chat/completions HTTP/1.1\nhost: x\nconnection: close\n{length}{headers}\n{text}"
