"""What a fault costs under constant load: requests that were not answered as they should be, and cut streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from support.scene import ANSWER, MODEL
from weighbridge_simulator.records import Records
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival

RATE = 200.0  # requests a second


class Asked(Protocol):
    """A gateway with an entrance."""

    url: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What one fault cost. `told` has what else was measured, by name."""

    fault: str
    asked: int
    lost: int
    told: dict[str, Any] = field(default_factory=dict)


async def load(scene: Asked, seconds: float, *, stream: bool = False, patience: float = 20.0) -> Records:
    """Constant traffic. A request without an answer after `patience` seconds is lost."""
    traffic = Traffic([scene.url], Question(MODEL, stream=stream), time.monotonic, Random(1), timeout=patience)
    return await traffic.run(Arrival(i / RATE, 8, ANSWER) for i in range(round(seconds * RATE)))


def count(fault: str, records: Records, **told: Any) -> Figure:
    """The figure of a fault from what was seen of every request."""
    wrong = {name: n for name, n in records.counts.items() if name not in ("ok", "open") and n}
    statuses = sorted({records.status[row] for row in records.rows()} - {0, 200})
    waits = records.durations()
    slowest = {"slowest_s": round(waits[-1], 2)} if waits else {}
    extra = ({"how": wrong} if wrong else {}) | ({"statuses": statuses} if statuses else {})
    return Figure(fault, len(records), sum(wrong.values()), extra | slowest | told)


async def during(scene: Asked, seconds: float, event: Awaitable[Any], after: float = 2.0, **how: Any) -> Records:
    """Load, and in it the event."""
    running = asyncio.create_task(load(scene, seconds, **how))
    await asyncio.sleep(after)
    await event
    return await running


async def around(scene: Asked, event: Awaitable[Any], before: float = 1.0, after: float = 1.0) -> Records:
    """Load from some seconds before the event until some seconds after it, however long it takes."""
    traffic = Traffic([scene.url], Question(MODEL, stream=False), time.monotonic, Random(1), timeout=20.0)
    over = asyncio.Event()

    def arrive() -> Any:
        number = 0
        while not over.is_set():
            yield Arrival(number / RATE, 8, ANSWER)
            number += 1

    running = asyncio.create_task(traffic.run(arrive()))
    try:
        await asyncio.sleep(before)
        await event
        await asyncio.sleep(after)
    except BaseException:
        running.cancel()
        raise
    over.set()
    return await running
