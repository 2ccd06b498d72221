"""Reading a request log that Envoy writes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

QUICK = ("--file-flush-interval-msec", "50")  # for Envoy: lines come soon


async def read_lines(path: Path, count: int, limit: float = 20.0) -> list[dict[str, Any]]:
    """Waits for this many lines; there must be no more."""
    async with asyncio.timeout(limit):
        while (text := _read(path)).count(b"\n") < count:  # noqa: ASYNC110  a file tells nobody
            await asyncio.sleep(0.02)
    lines = text.splitlines()
    assert len(lines) == count
    return [json.loads(line) for line in lines]


def _read(path: Path) -> bytes:
    return path.read_bytes()
