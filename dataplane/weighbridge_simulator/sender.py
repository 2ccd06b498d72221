"""Steady traffic for a demonstration: chat requests at a constant rate, with a count of what became of them."""

from __future__ import annotations

import asyncio
import json
import math
import time
from random import Random
from typing import Any

from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Sizes, draw_arrivals

TELL = 1.0  # seconds between counts


async def send_traffic(url: str, model: str, rate: float, ended: asyncio.Event, *, tell: bool) -> None:
    """Streamed chat requests to `url`, `rate` a second, until `ended`; `tell` prints the counts as lines of JSON."""
    random = Random(1)
    traffic = Traffic([url], Question(model=model), time.monotonic, random)
    work: list[asyncio.Task[Any]] = [asyncio.create_task(traffic.run(draw_arrivals(rate, math.inf, Sizes(), random)))]
    if tell:
        work.append(asyncio.create_task(_tell(traffic)))
    await ended.wait()
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)


async def _tell(traffic: Traffic) -> None:
    while True:
        print(json.dumps({"traffic": dict(traffic.records.counts)}), flush=True)
        await asyncio.sleep(TELL)
