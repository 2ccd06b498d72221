"""One cell of the balance benchmark: a setting, a gateway and a seed, on real Envoys before simulated nodes.

The nodes run in a process of their own (`weighbridge simulate`). Arrivals, sizes and the order of everything else are
the same for every gateway of a setting and seed. All cells of a group run at once, each on a fleet of its own, so that
they see the same machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from math import isnan
from random import Random
from typing import Any, Protocol

import aiohttp

from support.envoy import free_port
from weighbridge_comparison.cells import GIVEN_UP, Cell, Row, make_cell
from weighbridge_comparison.fleet import Event, Fleet
from weighbridge_comparison.setting import Setting, draw
from weighbridge_simulator.outcome import Turns
from weighbridge_simulator.records import Records, percentile
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival

APART = 0.13  # seconds between the starts of two cells that run at once
#: Nodes are machines of their own: gateways do not wait for a processor because a simulated one computes.
BEHIND = ("nice", "-n", "10")
TAIL = 8.0  # seconds in which the last requests may still be answered
Ports = Sequence[Mapping[str, Any]]  # of the nodes, as `weighbridge simulate` announces them
Prompts = dict[str, tuple[int, int]]  # by a node's host: tokens of its prompts, and those that need not be read anew


class Running(Protocol):
    """A gateway that takes requests at `url`; the rest is what is known of its weights."""

    url: str
    pushes: int
    turns: Turns
    told: float | None

    async def join(self, at: float) -> None:
        """Take the nodes that are there at this moment."""

    async def count_overdue(self) -> int | None:
        """Requests until now whose choice came later than Envoy waits for it; None where it is not known."""


Open = Callable[[Fleet, Ports], AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def simulate(fleet: Fleet) -> AsyncIterator[Ports]:
    """A fleet in a process of its own, as it announces itself: one port, and an address of loopback for each node."""
    command = [*BEHIND, sys.executable, "-m", "weighbridge_simulator.cli", "--print-json", "--every", "0"]
    command += ["--parent-pid", str(os.getpid()), "--machine-port", "0", "--port", str(free_port())]
    for number, node in enumerate(fleet.servers):
        keys = {"name": node.name, "size": node.size, "slow": node.slow, "model": "sim", "engine": node.engine}
        keys["host"] = f"127.0.0.{number + 2}"
        keys |= node.compute.model_dump(exclude_none=True, by_alias=False)
        told = {name: str(value).lower() if isinstance(value, bool) else value for name, value in keys.items()}
        command += ["--node", ",".join(f"{name}={value}" for name, value in told.items())]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["nodes"]
    finally:
        process.terminate()
        await process.wait()


async def start(fleet: Fleet, open_gateway: Open, running: AsyncExitStack) -> tuple[Ports, Running]:
    """A fleet and a gateway before it, until `running` ends. One that does not start is started once more: among
    hundreds of programs one does not come up in time, and hours of others' work would be lost."""
    try:
        return await _start(fleet, open_gateway, running)
    except Exception as error:
        print(f"a gateway did not start and is started once more: {error}", file=sys.stderr, flush=True)
        return await _start(fleet, open_gateway, running)


async def _start(fleet: Fleet, open_gateway: Open, running: AsyncExitStack) -> tuple[Ports, Running]:
    async with AsyncExitStack() as own:
        ports = await own.enter_async_context(simulate(fleet))
        gateway = await own.enter_async_context(open_gateway(fleet, ports))
        running.push_async_exit(own.pop_all())
        return ports, gateway


async def wait_turn(ready: asyncio.Barrier) -> None:
    """Until all that share it are ready, and then a little longer than the one before: requests are equal, and one that
    came to all of them at the same instant would wait in each for the processors that serve the others."""
    await asyncio.sleep(APART * await ready.wait())


async def run_cell(
    setting: Setting,
    name: str,
    open_gateway: Open,
    seed: int,
    starting: asyncio.Semaphore,
    ready: asyncio.Barrier,
    question: Question = Question(),  # noqa: B008  a frozen value
) -> Cell:
    """Measures one cell. Gateways start a few at a time (`starting`), traffic when all that share `ready` can."""
    fleet = setting.fleet
    async with AsyncExitStack() as running:
        async with starting:
            ports, gateway = await start(fleet, open_gateway, running)
        arrivals = draw(setting, seed)
        traffic = Traffic([gateway.url], question, time.monotonic, Random(seed), timeout=GIVEN_UP)
        await wait_turn(ready)
        began = time.monotonic()
        tasks = [
            asyncio.create_task(traffic.run(arrivals)),
            asyncio.create_task(_follow(fleet, ports, gateway)),
        ]
        counting = asyncio.create_task(_read_prompts(ports, fleet.count_from))
        try:
            await asyncio.wait([tasks[0]], timeout=fleet.duration + TAIL)
            seen = {
                "late": _reckon_late(traffic, arrivals),
                "cached": _reckon_cached(await counting, await _read_prompts(ports)),
                "overdue": await gateway.count_overdue(),
            }
            return _summarise(setting, name, seed, traffic, gateway, began, seen)
        finally:
            for task in (*tasks, counting):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def _reckon_late(traffic: Traffic, arrivals: Sequence[Arrival]) -> float:
    """The seconds by which the load generator was late, p99."""
    sent = traffic.records.start
    late = [sent[row] - arrival.at for row, arrival in zip(traffic.records.rows(), arrivals, strict=False)]
    return percentile(late, 0.99)


async def _read_prompts(ports: Ports, after: float = 0.0) -> Prompts:
    """What the nodes that answer then have been asked to read."""
    await asyncio.sleep(after)
    found: Prompts = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as http:
        for place in ports:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(f"http://{place['host']}:{place['port']}/sim/state") as answer:
                    state = await answer.json(content_type=None)
                found[place["host"]] = state["prompt_tokens"], state["cached_tokens"]
    return found


def _reckon_cached(before: Prompts, after: Prompts) -> float:
    """The part of the prompts' tokens that need not be read anew, of those that came in between."""
    prompts = cached = 0
    for host, (asked, found) in after.items():
        asked_before, found_before = before.get(host, (0, 0))
        prompts, cached = prompts + asked - asked_before, cached + found - found_before
    return cached / max(1, prompts)


async def _follow(fleet: Fleet, ports: Ports, gateway: Running) -> None:
    """Lets happen what the file says, each at its moment."""
    moments = sorted({node.joins for node in fleet.servers if node.joins > 0})
    async with asyncio.TaskGroup() as tasks, aiohttp.ClientSession() as http:
        for at in moments:
            tasks.create_task(_join(gateway, at))
        await asyncio.gather(*(_happen(fleet, ports, event, http) for event in fleet.events))


async def _join(gateway: Running, at: float) -> None:
    await asyncio.sleep(at)
    await gateway.join(at)


async def _happen(fleet: Fleet, ports: Ports, event: Event, http: aiohttp.ClientSession) -> None:
    places = {node.name: place for node, place in zip(fleet.servers, ports, strict=True)}
    spans = [(event.at, dict(event.does))]
    if event.until is not None:
        spans.append((event.until - event.at, dict.fromkeys(event.does)))
    for wait, patch in spans:
        await asyncio.sleep(wait)
        for name in event.nodes:
            others = [place for other, place in places.items() if other != name]
            await _control([places[name], *others], {"node": name, **patch}, http)


async def _control(places: Ports, patch: dict[str, Any], http: aiohttp.ClientSession) -> None:
    """Sends a patch to the first of these nodes that listens; any can change any other."""
    for number, place in enumerate(places, start=1):
        try:
            async with http.post(f"http://{place['host']}:{place['port']}/sim/control", json=patch) as answer:
                answer.raise_for_status()
                return
        except aiohttp.ClientConnectorError:
            if number == len(places):
                raise


def _summarise(
    setting: Setting,
    name: str,
    seed: int,
    traffic: Traffic,
    gateway: Running,
    began: float,
    seen: Mapping[str, Any],
) -> Cell:
    """`seen`: what else make_cell is told of it."""
    records, now = traffic.records, traffic.now()
    numbers = {node.name: number for number, node in enumerate(setting.fleet.servers)}
    rows: list[Row] = []
    failed = 0
    for row in records.rows():
        sent_away = _is_sent_away(records, row)
        rows.append((records.start[row], _wait(records, row, now), numbers.get(records.node(row), -1)))
        failed += sent_away and records.start[row] >= setting.fleet.count_from
    return make_cell(
        (setting.name, setting.load),
        name,
        seed,
        setting.fleet,
        rows,
        failed,
        pushes=gateway.pushes,
        taken_back=gateway.turns.share,
        told=None if gateway.told is None else gateway.told - began,
        **seen,
    )


def _is_sent_away(records: Records, row: int) -> bool:
    # A long answer whose first token came was answered, though the load generator did not wait for its end.
    outcome = records.outcome(row)
    return outcome not in ("ok", "open") and (outcome != "late" or isnan(records.first[row]))


def _wait(records: Records, row: int, now: float) -> float:
    # Who still waits has waited until now at least. Who was sent away counts as one who was never answered.
    if _is_sent_away(records, row):
        return GIVEN_UP
    first = records.first[row]
    return (now if isnan(first) else first) - records.start[row]
