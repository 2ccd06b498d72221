"""The control plane's shell: cells in, one snapshot out. All decisions are the core's; here is only when they are made.

    files ──► loaded ─┐
                      ├─► replan: resolve, weigh, translate ─► snapshot ─► Envoys
    DNS ──► addresses ┘            ▲
    nodes, Envoys ──► round ───────┴─► tick: weigh, endpoints only

Nothing is published before the objects were read once, their names were looked up and one round of load came in, or
three seconds passed: an Envoy that already runs keeps what it has, and none sees a flash of neutral weights.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from weighbridge_operator.core.doors import DoorNames, Doors, Secrets, open_doors
from weighbridge_operator.core.resolve import Resolved, resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.core.tick import Done, Weighed, changed_pools, weigh_pools, weigh_stepwise
from weighbridge_operator.keeping import keep_going, within
from weighbridge_operator.latest import Latest
from weighbridge_operator.settings import PrometheusSettings
from weighbridge_operator.sources.addresses import Addresses, parse_literal
from weighbridge_operator.sources.addresses import Resolved as Names
from weighbridge_operator.sources.envoys import EnvoyRound
from weighbridge_operator.sources.merging import Knowledge
from weighbridge_operator.sources.prometheus_answers import Wanted
from weighbridge_operator.sources.rounds import Owners, Rounds
from weighbridge_operator.sources.scrape import ScrapeTarget
from weighbridge_operator.sources.targets import list_owners, list_pages, list_targets, list_wanted
from weighbridge_operator.state import EnvoyPlaces, LoadRound, Objects
from weighbridge_operator.xds.chains import Plan, plan_clusters
from weighbridge_operator.xds.envoys import EnvoyStates
from weighbridge_operator.xds.lingering import Lingering
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.memo import Memo
from weighbridge_operator.xds.precise import count_others
from weighbridge_operator.xds.snapshot import Snapshot, SnapshotError, derive_salt
from weighbridge_operator.xds.translate import assign_weights, translate

if TYPE_CHECKING:
    from weighbridge_operator.sources.prometheus import Prometheus

PATIENCE = 3.0  # seconds that the first snapshot waits for names and load
TURN = 0.002  # seconds of weighing, after which it rests
REST = 0.001  # seconds, in which a changed object goes first, and an Envoy that acknowledges
PATIENT = 5  # times that weighing begins anew for such a change
log = logging.getLogger("weighbridge.loop")


class Loop:
    """Turns `loaded` objects and what nodes and Envoys say into `snapshots`; the other cells are to be looked at."""

    def __init__(
        self,
        loaded: Latest[Objects],
        envoys: Latest[EnvoyStates],
        snapshots: Latest[Snapshot],
        *,
        scope: Scope,
        entrance: Entrance,
        names: DoorNames = DoorNames(),  # noqa: B008  # a frozen value
        weighed: Weighed | None = None,
        prometheus: PrometheusSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        places: Latest[EnvoyPlaces] | None = None,
        authorities: bytes | None = None,
    ) -> None:
        self.snapshots, self._places = snapshots, places
        self.rounds: Latest[LoadRound] = Latest()
        self.envoy_rounds: Latest[EnvoyRound] = Latest()
        self.resolved: Resolved | None = None
        self.planned: Latest[Objects] = Latest()  # what the snapshot was made from
        self.weighed = weighed or Weighed()
        self.names: Latest[Names] = Latest()
        self.loaded = loaded
        self.envoys = envoys
        self._hosts: Latest[frozenset[str]] = Latest()
        self.doors = Doors()
        self._scope, self._entrance, self._door_names, self._clock = scope, entrance, names, clock
        self._authorities = authorities
        self._salted: tuple[Secrets, bytes] | None = None
        self.knowledge: Latest[Knowledge] = Latest()
        self._prometheus = prometheus
        self._wanted: tuple[Wanted, ...] = ()
        self._targets: tuple[ScrapeTarget, ...] = ()
        self._asked: frozenset[str] = frozenset()
        self._owners: Owners = {}
        self._plan: Plan | None = None
        self._placed: Resolved | None = None  # what tells whom to ask
        self._memo, self._lingering = Memo(), Lingering()
        self._dirty = asyncio.Event()

    async def run(self) -> None:
        """Works until cancelled."""
        asking = Rounds(
            lambda: self._targets,
            self._stats_urls,
            lambda: self._owners,
            self.rounds,
            self.envoy_rounds,
            clock=self._clock,
            prometheus=self.knowledge,
            optional=self._passing_envoys,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_going("looking up names", Addresses(self._hosts, self.names).run))
            await self.loaded.wait_newer()
            await self._look_up()
            self._resolve()
            if self._prometheus is not None:
                tasks.create_task(keep_going("asking Prometheus", self._make_queries(self._prometheus).run))
            tasks.create_task(keep_going("asking for load", asking.run))
            await self._first_round()
            self._replan()
            # What was planned is known here; a task first runs later, when there may be something newer.
            tasks.create_task(self._mark(self.loaded, self.loaded.version))
            tasks.create_task(self._mark(self.names, self.names.version))
            tasks.create_task(keep_going("weighing", partial(self._follow_rounds, self.rounds.version)))
            tasks.create_task(keep_going("planning", self._follow_objects))

    def _make_queries(self, settings: PrometheusSettings) -> Prometheus:
        # Its client is not installed where nobody asks a Prometheus.
        from weighbridge_operator.sources.prometheus import Prometheus  # noqa: PLC0415

        return Prometheus(settings, lambda: self._wanted, self.knowledge, clock=self._clock)

    def is_asked(self, node: str) -> bool:
        """Whether the server (`ir.Endpoint.node`) prints metrics somewhere, or should be known to Prometheus."""
        knowledge = self.knowledge.get()
        return node in self._asked or (knowledge is not None and node in knowledge.found)

    async def wait_precise(self) -> None:
        """Waits until some policy lets a node be named for each request."""
        version = 0
        while self.resolved is None or not self.resolved.gateway.precise:
            _, version = await self.planned.wait_newer(version)

    async def _look_up(self) -> None:
        hosts = self._ask_names()
        if any(parse_literal(host) is None for host in hosts):
            await within(PATIENCE, self.names.wait_newer())

    def _ask_names(self) -> frozenset[str]:
        loaded = self.loaded.get()
        hosts = frozenset(node.spec.host for node in loaded.desired.nodes if node.spec.host) if loaded else frozenset()
        if hosts != self._hosts.get():
            self._hosts.set(hosts)
        return hosts

    async def _first_round(self) -> None:
        if self._targets or self._wanted:
            await within(PATIENCE, self._wait_numbers())

    async def _wait_numbers(self) -> None:
        """For a round in which there is what Prometheus said first, where one is asked."""
        if self._wanted:
            await self.knowledge.wait_newer()
        await self.rounds.wait_newer(self.rounds.version if self._wanted else 0)

    async def _mark(self, cell: Latest[Objects] | Latest[Names], version: int) -> None:
        while True:
            _, version = await cell.wait_newer(version)
            self._dirty.set()

    async def _follow_objects(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._ask_names()
            self._replan()

    async def _follow_rounds(self, version: int) -> None:
        while True:
            load, version = await self.rounds.wait_newer(version)
            await self._tick(load)
            if self._lingering.is_over(self._clock()):
                self._dirty.set()

    def _stats_urls(self) -> Mapping[str, str | None]:
        """Of every Envoy: of those that are connected here, and of those that only the cluster knows."""
        states, places = self.envoys.get(), self._list_places()
        # What the cluster knows of one that is not believed is good.
        listed = {pod: place.url for pod, place in places.items()}
        known = {envoy.id: envoy.stats or listed.get(envoy.id) for envoy in states.envoys} if states else {}
        told = set(known.values())
        return {pod: place.url for pod, place in places.items() if place.url not in told} | known

    def _passing_envoys(self) -> frozenset[str]:
        """Those that begin or end, and so need not answer."""
        passing = {place.url: pod for pod, place in self._list_places().items() if not place.sure}
        states = self.envoys.get()
        known = {envoy.id for envoy in states.envoys if envoy.stats in passing} if states else set()
        return frozenset(known | set(passing.values()))

    def _list_places(self) -> EnvoyPlaces:
        return (self._places.get() if self._places is not None else None) or {}

    def _resolve(self) -> Resolved:
        loaded, names = self.loaded.get(), self.names.get()
        assert loaded is not None
        addresses = names.addresses if names else {}
        desired = replace(loaded.desired, addresses=addresses, authorities=self._authorities)
        self.resolved = resolve(desired, self._scope, self.resolved)
        self._plan = plan_clusters(self.resolved.gateway)
        # Whom to ask depends on the nodes and who stands beside whom, which most changes leave as it was.
        if self._placed is None or not self.resolved.has_same_places(self._placed):
            self._placed = self.resolved
            self._targets = list_targets(self.resolved, desired)
            self._wanted = list_wanted(self.resolved) if self._prometheus else ()
            required = [each.node for each in self._wanted if each.required]
            self._asked = frozenset([target.node for target in self._targets] + required)
            self._owners = list_owners(self.resolved.gateway)
        return self.resolved

    def _replan(self) -> None:
        """A new snapshot for new objects. One that can't be made leaves the last one in place."""
        before, held, plan = self.snapshots.get(), self.resolved, self._plan
        resolved = self._resolve()
        loaded = self.loaded.get()
        assert loaded is not None
        load = self.rounds.get() if before is None else None
        known = held.gateway if held is not None and before is not None else None
        self.weighed = weigh_pools(resolved.gateway, self.weighed, load, self._clock(), known)
        secrets = loaded.desired.secrets
        salt = self._take(secrets)
        given = (resolved.gateway, self.weighed.weights, secrets, self._entrance, salt, self.doors, self._memo)
        try:
            pages = list_pages(resolved) if resolved.gateway.precise else {}
            after = translate(*given, self._authorities, pages, self._plan)
        except (SnapshotError, ValueError):
            log.exception("no snapshot can be made of these objects; the last one keeps serving")
            self.resolved, self._plan = held, plan  # what the ticks to come have to weigh is what is served
            return
        after = self._lingering.keep(before, self._count_others(after, self.rounds.get()), self._clock())
        if after != before:
            self.snapshots.set(after)
            log.info("snapshot %s: %s", after.version, resolved.summary)
        self.planned.set(loaded)

    def _take(self, secrets: Secrets) -> bytes:
        """Opens the entrance with these secrets, if they are others than before; their salt."""
        if self._salted is None or self._salted[0] != secrets:
            self.doors = open_doors(self._door_names, secrets, self.doors)
            self._salted = (secrets, derive_salt(secrets))
        return self._salted[1]

    async def _tick(self, load: LoadRound) -> None:
        if self.resolved is None or self.snapshots.get() is None:
            return
        # Objects that change meanwhile are planned and sent first, and this begins anew; but not for ever. What is done
        # by then is done, so that the last time, which does not rest, has little left.
        done: Done = {}
        for turn in (*[TURN] * PATIENT, None):
            weighed = await self._weigh(load, turn, done)
            if weighed is not None:
                break
        assert weighed is not None
        changed, self.weighed = changed_pools(self.weighed, weighed), weighed
        snapshot = self.snapshots.get()
        assert snapshot is not None
        after = assign_weights(snapshot, self.resolved.gateway, changed) if changed else snapshot
        after = self._count_others(after, load)
        if after != snapshot:
            self.snapshots.set(after)
        for pool, weights in changed.items():
            told = ", ".join(f"{node.partition('/')[2]} {weight}" for node, weight in weights.items())
            log.info("weights of %s: %s", pool, told)

    def _count_others(self, snapshot: Snapshot, load: LoadRound | None) -> Snapshot:
        if self._plan is None or not self._plan.precise:
            return snapshot
        told = (self._owners, self._plan.precise, load, len(self._stats_urls()), self.weighed.doubted)
        return snapshot.with_runtime(count_others(*told))

    async def _weigh(self, load: LoadRound, turn: float | None, done: Done) -> Weighed | None:
        """Every pool weighed, at most `turn` seconds at a time; None if something else was planned meanwhile."""
        assert self.resolved is not None
        gateway, before, began = self.resolved.gateway, self.weighed, time.monotonic()
        for weighed in weigh_stepwise(gateway, before, load, self._clock(), done=done):
            if weighed is not None:
                return weighed
            if turn is not None and time.monotonic() - began > turn:
                await asyncio.sleep(REST)
                if self.weighed is not before:
                    return None
                began = time.monotonic()
        return None
