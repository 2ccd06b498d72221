"""Prometheus as a source of load: round after round of queries for the whole fleet, beside the rounds of asking nodes.

Its calls block, so they run in a few threads of their own; what they found lies in a cell that the rounds look into:
however slow a Prometheus is, no tick waits for it. Of several replicas the one that answered last is asked first. One
that fails is left alone, twice as long each time, and tried again beside the others, so that it costs nothing. One
that answers but has nothing young (it was restarted, it scrapes nobody) gives way to one that has.

Each replica scrapes for itself: its instants, counters and clock are kept apart from its siblings'.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from weighbridge_operator.latest import Latest
from weighbridge_operator.settings import PrometheusSettings
from weighbridge_operator.sources.merging import INTERVALS, MAXIMUM_AGE, Knowledge, ServerState
from weighbridge_operator.sources.prometheus_answers import Wanted
from weighbridge_operator.sources.prometheus_fleet import Fleet
from weighbridge_operator.sources.prometheus_server import PrometheusError, PrometheusServer

THREADS: Final = 4  # queries at once
BACK_OFF_MAXIMUM: Final = 60.0  # seconds that a failed replica is left alone, where there are others
log = logging.getLogger("weighbridge.prometheus")


@dataclass
class _Replica:
    server: PrometheusServer
    fleet: Fleet
    newest: float | None = None  # seconds, the instant of its newest number
    error: str | None = None
    failed: int = 0  # times in a row
    ready: float = 0.0  # when it may be asked again


class Prometheus:
    """Asks until cancelled; the newest is in `out`."""

    def __init__(
        self,
        settings: PrometheusSettings,
        wanted: Callable[[], Sequence[Wanted]],
        out: Latest[Knowledge],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._wanted, self._out, self._clock = settings, wanted, out, clock
        self._replicas = [
            _Replica(server, Fleet(server))
            for server in (PrometheusServer(url, settings, clock) for url in settings.urls)
        ]
        self._chosen = self._replicas[0]
        self._probes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Asks until cancelled."""
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")
        try:
            beat = self._clock()
            while True:
                await self._ask(pool)
                beat = max(beat + self._settings.interval, self._clock())
                await asyncio.sleep(beat - self._clock())
        finally:
            for probe in self._probes:
                probe.cancel()
            for replica in self._replicas:
                replica.server.close()
            pool.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, pool: ThreadPoolExecutor) -> None:
        """One round: the first replica that has young numbers, else the one whose numbers are youngest."""
        wanted = tuple(self._wanted())
        answered: list[_Replica] = []
        for replica in self._in_order() if wanted else ():
            if not await self._try(replica, wanted, pool):
                continue
            answered.append(replica)
            if self._is_young(replica):
                break
        if answered:
            # What a replica said before it failed is better than nothing from another, until it is too old.
            self._choose(max([*answered, self._chosen], key=lambda each: each.newest or 0.0))
        self._probe(answered, pool)
        now, chosen = self._clock(), self._chosen
        amiss = f"Prometheus {chosen.server.name} {chosen.error}" if wanted and chosen.error is not None else None
        found = await asyncio.get_running_loop().run_in_executor(pool, chosen.fleet.tell, wanted, now, amiss)
        self._out.set(Knowledge(found, tuple(self._state(r) for r in self._replicas)))

    def _in_order(self) -> list[_Replica]:
        """Those to ask now: the chosen first; one that failed only when its time has come and no other is left."""
        now = self._clock()
        first = sorted(self._replicas, key=lambda each: each is not self._chosen)
        well = [each for each in first if each.error is None]
        return well or [each for each in first if now >= each.ready] or [min(first, key=lambda each: each.ready)]

    async def _try(self, replica: _Replica, wanted: Sequence[Wanted], pool: ThreadPoolExecutor) -> bool:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(pool, replica.server.measure_clock)
            asked = [
                loop.run_in_executor(pool, replica.fleet.ask, question)
                for question in replica.fleet.list_questions(wanted)
            ]
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        except PrometheusError as error:
            self._fail(replica, str(error))
            return False
        replica.newest = await loop.run_in_executor(pool, replica.fleet.place, self._clock())
        self._recover(replica)
        return True

    def _fail(self, replica: _Replica, why: str) -> None:
        if replica.error != why:
            log.warning("Prometheus %s %s", replica.server.name, why)
        replica.error = why
        replica.ready = self._clock() + min(BACK_OFF_MAXIMUM, self._settings.interval * 2**replica.failed)
        replica.failed = min(replica.failed + 1, 16)

    def _recover(self, replica: _Replica) -> None:
        if replica.error is not None:
            log.info("Prometheus %s answers again", replica.server.name)
        replica.error, replica.failed = None, 0

    def _choose(self, replica: _Replica) -> None:
        if replica is not self._chosen:
            log.info("load is read from Prometheus %s", replica.server.name)
        self._chosen = replica

    def _is_young(self, replica: _Replica) -> bool:
        newest, now = replica.newest, self._clock()
        return newest is not None and now - newest <= max(MAXIMUM_AGE, INTERVALS * self._settings.interval)

    def _probe(self, answered: Sequence[_Replica], pool: ThreadPoolExecutor) -> None:
        """Looks, beside all else, whether a failed replica is back; only where another one answers."""
        now = self._clock()
        for replica in self._replicas if answered else ():
            if replica.error is not None and now >= replica.ready:
                replica.ready = now + BACK_OFF_MAXIMUM
                probe = asyncio.create_task(self._look(replica, pool))
                self._probes.add(probe)
                probe.add_done_callback(self._probes.discard)

    async def _look(self, replica: _Replica, pool: ThreadPoolExecutor) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(pool, replica.server.measure_clock)
        except PrometheusError as error:
            self._fail(replica, str(error))
        else:
            self._recover(replica)

    def _state(self, replica: _Replica) -> ServerState:
        server = replica.server
        return ServerState(server.name, server.queries, server.failures, server.skew, replica.newest, replica.error)
