"""One cell of the balance benchmark: a scenario, a mechanism and a seed, on real Envoys before simulated nodes.

The nodes run in a process of their own (`weighbridge simulate`). Arrivals, sizes and the order of everything else are
the same for every mechanism of a scenario and seed. All cells of a scenario run at once, each on a fleet of its own,
so that they see the same machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from math import isnan
from random import Random
from typing import Any

import aiohttp

from mechanisms import MECHANISMS, Gateway, describe
from weighbridge_simulator.records import Records, percentile
from weighbridge_simulator.scenario import ROOMS, UNIT_RATE
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Sizes, draw_arrivals

ENVOYS = 2
WARM = 10.0  # seconds that are not counted
TAIL = 8.0  # seconds in which the last requests may still be answered
GIVEN_UP = 60.0  # seconds; what a failed request counts as


@dataclass(frozen=True, slots=True)
class Scenario:
    """`change` is sent to the first node (as /sim/control takes it) at `at` seconds; counted from `since` on."""

    name: str
    rooms: tuple[float, ...]
    load: float
    capacity: bool = False
    node: int = 0
    change: tuple[tuple[str, Any], ...] = ()
    at: float = 0.0
    since: float = WARM


SCENARIOS = {
    s.name: s
    for s in (
        Scenario("uneven 4:4:2:2:1:1", ROOMS, 0.8, capacity=True),
        Scenario(
            "others' load on one node", (1.0,) * 6, 0.85, change=(("flood", 0.5 * UNIT_RATE),), at=5.0, since=35.0
        ),
        Scenario("uniform", (1.0,) * 6, 0.8),
        Scenario("uneven, one says idle", ROOMS, 0.8, capacity=True, node=4, change=(("lie", "idle"),), at=2.0),
    )
}


@dataclass(frozen=True, slots=True)
class Cell:
    """What came out: times to the first token in seconds, shares of the answers, and what was pushed."""

    scenario: str
    mechanism: str
    seed: int
    requests: int
    p50: float
    p99: float
    answered: float
    shares: dict[str, float]
    pushes: int
    weights: dict[str, int]


@asynccontextmanager
async def simulate(rooms: tuple[float, ...]) -> AsyncIterator[list[dict[str, Any]]]:
    """A fleet in a process of its own, as it announces itself."""
    command = [sys.executable, "-m", "weighbridge_simulator.cli", "--print-json", "--parent-pid", str(os.getpid())]
    command += ["--every", "0", "--machine-port", "0"]
    for number, room in enumerate(rooms):
        command += ["--node", f"name=n{number},size={room:g},model=sim"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["nodes"]
    finally:
        process.terminate()
        await process.wait()


async def run_cell(
    scenario: Scenario, mechanism: str, seed: int, seconds: float, starting: asyncio.Semaphore, ready: asyncio.Barrier
) -> Cell:
    """Measures one cell. Gateways start a few at a time (`starting`), traffic when all that share `ready` can."""
    kind = MECHANISMS[mechanism]
    capacities = [room if scenario.capacity else None for room in scenario.rooms]
    async with AsyncExitStack() as running:
        async with starting:
            fleet = await running.enter_async_context(simulate(scenario.rooms))
            objects = describe(kind, fleet, capacities)
            gateway = Gateway(kind, *objects, envoys=ENVOYS)
            await running.enter_async_context(gateway)
        random = Random(seed)
        rate = scenario.load * sum(scenario.rooms) * UNIT_RATE
        arrivals = list(draw_arrivals(rate, seconds, Sizes(), random))
        traffic = Traffic([gateway.url], Question(), time.monotonic, random, timeout=GIVEN_UP)
        await ready.wait()
        changing = asyncio.create_task(_change(scenario, fleet))
        sending = asyncio.create_task(traffic.run(arrivals))
        await asyncio.wait([sending], timeout=seconds + TAIL)
        cell = _summarise(scenario, mechanism, seed, traffic, gateway)
        for task in (sending, changing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return cell


async def _change(scenario: Scenario, fleet: list[dict[str, Any]]) -> None:
    if scenario.change:
        await asyncio.sleep(scenario.at)
        url = f"http://127.0.0.1:{fleet[scenario.node]['port']}/sim/control"
        async with aiohttp.ClientSession() as http, http.post(url, json=dict(scenario.change)) as answer:
            answer.raise_for_status()


def _summarise(scenario: Scenario, mechanism: str, seed: int, traffic: Traffic, gateway: Gateway) -> Cell:
    records, now = traffic.records, traffic.now()
    rows = list(records.rows(scenario.since))
    waits = sorted(_wait(records, row, now) for row in rows)
    shares = records.shares(scenario.since)
    failed = sum(records.outcome(row) not in ("ok", "open") for row in rows)
    return Cell(
        scenario=scenario.name,
        mechanism=mechanism,
        seed=seed,
        requests=len(rows),
        p50=percentile(waits, 0.5),
        p99=percentile(waits, 0.99),
        answered=1 - failed / len(rows),
        shares={f"n{number}": shares.get(f"n{number}", 0.0) for number in range(len(scenario.rooms))},
        pushes=gateway.pushes,
        weights=gateway.weights(),
    )


def _wait(records: Records, row: int, now: float) -> float:
    # Who still waits has waited until now at least. Who was sent away counts as one who was never answered.
    if records.outcome(row) not in ("ok", "open"):
        return GIVEN_UP
    first = records.first[row]
    return (now if isnan(first) else first) - records.start[row]
