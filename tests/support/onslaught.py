"""Sends malformed requests to a gateway and keeps what it answered, how quickly, and what that cost it in memory."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from support.malformed import Malformed
from support.stack import Stack


@dataclass(slots=True)
class Outcome:
    """`statuses` by fault; `worst`: seconds, and which; `odd`: answers that are not as they should be."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    worst: tuple[float, str] = (0.0, "")
    odd: list[str] = field(default_factory=list)


def read_memory(stack: Stack) -> int:
    """Bytes that the first Envoy has now."""
    process = stack.envoys[0].process
    assert process is not None
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


async def send_all(stack: Stack, requests: Iterable[Malformed], outcome: Outcome, at_once: int = 1) -> None:
    """One after the other on `at_once` connections."""
    queue = iter(requests)
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        await asyncio.gather(*(_send(stack, http, queue, outcome) for _ in range(at_once)))


async def _send(stack: Stack, http: aiohttp.ClientSession, queue: Iterable[Malformed], outcome: Outcome) -> None:
    for one in queue:
        headers = {"content-type": one.content_type} | ({"content-encoding": one.encoding} if one.encoding else {})
        began = time.perf_counter()
        async with http.post(stack.url + one.path, data=one.body, headers=headers) as answer:
            told = await answer.json(content_type=None)
        took = time.perf_counter() - began
        outcome.seconds.append(took)
        outcome.worst = max(outcome.worst, (took, f"{one.about} on {one.path}, {len(one.body)} bytes"))
        outcome.statuses[one.about, answer.status] += 1
        if not 400 <= answer.status < 500 or not _is_error(one.path, told):
            outcome.odd.append(f"{one.about} on {one.path}: {answer.status} {str(told)[:200]}")


def _is_error(path: str, told: object) -> bool:
    """Whether it has the error shape of the path's API."""
    if not isinstance(told, dict) or not isinstance(told.get("error"), dict) or not told["error"].get("message"):
        return False
    if path.startswith("/v1/messages"):
        return told.get("type") == "error" and "type" in told["error"]
    return ("status" if path.startswith("/v1beta/") else "code") in told["error"]
