"""Rounds of asking: every period all nodes and all Envoys at once, into one LoadRound of one instant.

Nodes and Envoys are read anew each round: one that joined is asked in the next, one that left is forgotten with its
counters. Rounds begin on a fixed beat and are cut off before the next; who has not answered by then has a sample that
says so. Those who did not answer last time are asked last, the longest unasked of them first, so that however many
hang, they hold up only each other.

Asking an endpoint costs 0.5 ms of CPU (a page of 10 KB) to 0.8 ms (one of 195 KB), measured; 1 ms is reckoned. It is to
stay below a fifth of a core, so the period is what the endpoints cost divided by that fifth: 2 s up to 400 endpoints,
5 s for 1,000. It ends at 8 s, because a sample of 2.5 periods is stale and the law lets go after 20 s. An endpoint that
is not asked itself is still counted by every Envoy, which costs a tenth of that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence, Set

import aiohttp

from weighbridge_metrics.sample import LoadSample
from weighbridge_metrics.signals import Counters
from weighbridge_operator.latest import Latest
from weighbridge_operator.sources.envoys import TIMEOUT, EnvoyRound, read_envoys, spell
from weighbridge_operator.sources.merging import ENGINE, Knowledge, merge
from weighbridge_operator.sources.scrape import CONCURRENCY, ScrapeTarget, open_session, scrape
from weighbridge_operator.state import LoadRound

PERIOD_MINIMUM = 2.0  # seconds
PERIOD_MAXIMUM = 8.0
COST = 0.001  # seconds of CPU for one endpoint
CORE_SHARE = 0.2
COUNTED = 10  # endpoints that cost as much to be counted by the Envoys as one costs to be asked
#: The part of a period that an Envoy may take for its counts: with 30,000 endpoints it took 3 s.
ENVOY_PATIENCE = 0.5
#: The part of a period that a round may last.
PATIENCE = 0.9

LATE = "did not answer before the round was over"
UNASKED = "was not asked: too many others did not answer in time"

#: (cluster, "ip:port") -> (pool name, node), for every endpoint whose requests are to be known.
Owners = Mapping[tuple[str, str], tuple[str, str]]


def choose_period(endpoints: int) -> float:
    """Seconds between rounds of so many endpoints."""
    return min(PERIOD_MAXIMUM, max(PERIOD_MINIMUM, endpoints * COST / CORE_SHARE))


def assign(envoys: EnvoyRound, owners: Owners) -> Mapping[tuple[str, str], int] | None:
    """Requests in flight by (pool, node); None if unknown. Where all Envoys answered, what none of them counts is 0."""
    active = envoys.active
    if active is None:
        return None
    inflight: dict[tuple[str, str], int] = {}
    for (cluster, address), owner in owners.items():
        inflight[owner] = inflight.get(owner, 0) + active.get((spell(cluster), address), 0)
    return dict(sorted(inflight.items()))


class Rounds:
    """Asks round after round; the newest is in `out`, and what the Envoys said of themselves in `envoys_out`."""

    def __init__(
        self,
        targets: Callable[[], Sequence[ScrapeTarget]],
        envoys: Callable[[], Mapping[str, str | None]],  # Envoy id -> administration URL
        owners: Callable[[], Owners],
        out: Latest[LoadRound],
        envoys_out: Latest[EnvoyRound],
        *,
        period: Callable[[int], float] = choose_period,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        prometheus: Latest[Knowledge] | None = None,
        optional: Callable[[], Set[str]] = frozenset,  # ids of Envoys that need not answer
    ) -> None:
        self._prometheus: Latest[Knowledge] = prometheus or Latest()
        self._targets, self._optional = targets, optional
        self._envoys = envoys
        self._owners = owners
        self._out = out
        self._envoys_out = envoys_out
        self._period = period
        self._patience = patience
        self._clock = clock
        self._counters: dict[str, Counters] = {}
        self._held: dict[str, float] = {}  # node -> when its own page last told of the engine
        self._unanswered: dict[str, float] = {}  # node -> when it was last asked, if it did not answer all

    async def run(self) -> None:
        """Asks until cancelled, then leaves no connection and no task behind."""
        async with open_session() as session:
            beat = self._clock()
            while True:
                targets = tuple(self._targets())
                asked, counted = sum(len(target.urls) for target in targets), len(self._owners())
                period = self._period(max(asked, counted // COUNTED))
                limit = max(TIMEOUT, period * ENVOY_PATIENCE)
                await self._ask(session, targets, beat + period * self._patience, limit)
                # A beat that was missed (a frozen process) is not made up for.
                beat = max(beat + period, self._clock())
                await asyncio.sleep(beat - self._clock())

    async def _ask(
        self, session: aiohttp.ClientSession, targets: Sequence[ScrapeTarget], deadline: float, limit: float
    ) -> None:
        """One round, over by `deadline`; an Envoy has so many seconds."""
        began = self._clock()
        owners, bases, optional = self._owners(), self._envoys(), self._optional()
        asking = asyncio.create_task(read_envoys(session, bases, self._clock, limit=limit, optional=optional))
        places = asyncio.Semaphore(CONCURRENCY)
        ordered = sorted(targets, key=lambda target: (self._unanswered.get(target.node, 0.0), target.node))
        by_node = {target.node: target for target in ordered}
        scrapes = {node: asyncio.create_task(self._scrape(session, by_node[node], places)) for node in by_node}
        tasks: list[asyncio.Task[EnvoyRound] | asyncio.Task[LoadSample]] = [asking, *scrapes.values()]
        try:
            await asyncio.wait(tasks, timeout=max(0.0, deadline - self._clock()))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        scraped = {node: self._conclude(node, scrapes[node], began) for node in sorted(scrapes)}
        samples = self._merge(scraped)
        self._forget(samples.keys())
        envoys = (
            EnvoyRound({}, dict.fromkeys(sorted(bases.keys() - optional), LATE))
            if asking.cancelled()
            else asking.result()
        )
        self._envoys_out.set(envoys)
        self._out.set(LoadRound(began, samples, assign(envoys, owners)))

    def _merge(self, scraped: Mapping[str, LoadSample]) -> Mapping[str, LoadSample]:
        """With what Prometheus said last; nobody waits for it."""
        knowledge, now = self._prometheus.get(), self._clock()
        for node, sample in scraped.items():
            if any(getattr(sample, signal) is not None for signal in ENGINE):
                self._held[node] = sample.at
        found = knowledge.found if knowledge else {}
        return {
            node: merge(scraped.get(node), found.get(node), self._held.get(node), node, now)
            for node in sorted(scraped.keys() | found.keys())
        }

    async def _scrape(
        self, session: aiohttp.ClientSession, target: ScrapeTarget, places: asyncio.Semaphore
    ) -> LoadSample:
        async with places:
            self._unanswered[target.node] = self._clock()
            previous = self._counters.get(target.node, {})
            sample, self._counters[target.node] = await scrape(session, target, previous, self._clock)
            if not sample.error:
                del self._unanswered[target.node]
            return sample

    def _conclude(self, node: str, task: asyncio.Task[LoadSample], began: float) -> LoadSample:
        """The node's sample, or one that says why there is none."""
        if not task.cancelled():
            return task.result()
        asked = self._unanswered.get(node, 0.0) >= began
        return LoadSample(node=node, at=self._clock(), error=LATE if asked else UNASKED)

    def _forget(self, present: Set[str]) -> None:
        for kept in (self._counters, self._unanswered, self._held):
            for node in kept.keys() - present:
                del kept[node]
