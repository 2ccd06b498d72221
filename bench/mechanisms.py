"""The ways to spread requests that are measured side by side, and the gateway that runs one of them on real Envoys.

A rival gets what the product generates, with only the cluster's policy and the endpoints' weights put in place of ours:
same entrance, retries, ejection and health checks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2 as _maglev  # noqa: F401  registers the type
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2 as _robin  # noqa: F401
from google.protobuf import json_format
from google.protobuf.message import Message

from support.dataplane import TIMEOUTS, Dataplane
from support.envoy import free_port
from support.stack import Stack, node, policy
from weighbridge_comparison.fleet import Fleet, Mechanism, Profile
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.core.verdict import NodeFacts
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.sources.files import Loaded
from weighbridge_operator.state import LoadRound
from weighbridge_operator.status import Reporter
from weighbridge_operator.xds.envoys import EnvoyStates
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LISTENER, ROUTE
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Resource, Snapshot, build
from weighbridge_operator.xds.warmth import ask_over
from weighbridge_simulator.outcome import Turns

TICK = 2.0  # seconds between two decisions of a rival that has any
NATURAL_AGE = 3.0  # seconds that numbers are old, at most, when they are used
_POLICIES = "envoy.extensions.load_balancing_policies"
_MAGLEV = ("maglev.v3.Maglev", {"table_size": 1009})

Weigh = Callable[[Mapping[str, float]], Mapping[str, int]]  # scores by node to weights by node


@dataclass(frozen=True, slots=True)
class Way:
    """`profile` is ours; `envoy` a rival's policy (name, fields), with `weigh` where its weights follow scores.

    `precise`: a data plane beside each Envoy names a node for each request.
    """

    profile: Profile = "llm"
    precise: bool = False
    envoy: tuple[str, Mapping[str, Any]] | None = None
    weigh: Weigh | None = None


def lowest_wins(scores: Mapping[str, float]) -> dict[str, int]:
    """1000 for the node with the lowest score, 1 for the others."""
    best = min(scores, key=lambda name: (scores[name], name), default=None)
    return {name: 1000 if name == best else 1 for name in scores}


def hundred_minus(scores: Mapping[str, float]) -> dict[str, int]:
    """What the score leaves of 100."""
    return {name: max(1, round(100 - score)) for name, score in scores.items()}


#: Those that use scores use the classic one: CPU 40, memory 30, queue 30.
WAYS: Mapping[Mechanism, Way] = {
    "llm": Way(),
    "classic": Way("classic"),
    "round robin": Way(envoy=("round_robin.v3.RoundRobin", {})),
    "LEAST_REQUEST": Way(envoy=("least_request.v3.LeastRequest", {"choice_count": 2})),
    "lowest score": Way("classic", envoy=_MAGLEV, weigh=lowest_wins),
    "100 minus score": Way("classic", envoy=_MAGLEV, weigh=hundred_minus),
    "precise": Way(precise=True),
}


def describe(way: Way, fleet: Fleet, ports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The ModelNodes of this fleet by name, at the ports that `weighbridge simulate` announces."""
    objects = {}
    for one, at in zip(fleet.servers, ports, strict=True):
        spec: dict[str, Any] = {} if one.capacity is None else {"capacity": one.capacity}
        spec["address"] = {"host": at["host"], "port": at["port"]}
        spec["engine"] = "openai" if one.engine == "plain" else one.engine
        if way.profile == "classic":
            own = [] if one.engine == "plain" else [{"port": at["port"]}]
            spec["metrics"] = {"scrape": [*own, {"port": at["machine_port"]}]}
        objects[one.name] = node(one.name, at["port"], "sim", **spec)
    return objects


class LateLoop(Loop):
    """The product's loop, shown rounds that are `delay` seconds old, and of the Envoys' counts only some."""

    delay = 0.0
    seen: int | None = None

    def _stats_urls(self) -> Mapping[str, str | None]:
        return dict(sorted(super()._stats_urls().items())[: self.seen])

    async def _tick(self, load: LoadRound) -> None:
        if self.delay:
            self._kept = [*getattr(self, "_kept", []), load]
            old = [each for each in self._kept if each.at <= self._clock() - self.delay]
            if not old:
                return
            self._kept, load = self._kept[len(old) :], old[-1]
        await super()._tick(load)


class Gateway(Stack):
    """A Stack whose Envoys balance in some way before a fleet; `members` are the nodes by name."""

    def __init__(self, mechanism: Mechanism, fleet: Fleet, ports: Sequence[Mapping[str, Any]]) -> None:
        self._way, self._fleet = WAYS[mechanism], fleet
        self._late = max(0.0, fleet.metrics.age - NATURAL_AGE)  # by which all numbers come later than they do anyway
        self.members = describe(self._way, fleet, ports)
        super().__init__(*self.list_objects(0.0), envoys=fleet.envoys)
        self.pushes = 0
        self.turns = Turns()
        self._named_by: list[Dataplane] = []
        self.told: float | None = None  # when a wrong capacity was first named, by the monotonic clock

    def list_objects(self, at: float) -> list[dict[str, Any]]:
        """The objects at a moment of the run."""
        nodes = [self.members[one.name] for one in self._fleet.servers if one.joins <= at]
        told = policy("all", balance={"profile": self._way.profile, "precise": self._way.precise})
        told["metadata"]["uid"] = "all"  # as an API server draws one, by which Envoys name beginnings alike
        return [*nodes, told]

    def _list_sockets(self, number: int) -> tuple[str, ...]:
        return (self._named_by[number].socket,) if self._way.precise else ()

    async def _start_dataplanes(self) -> None:
        ports = [free_port() for _ in self._named_by] if self._count > 1 and self._fleet.metrics.peers else []
        tell = [flag for port in ports for flag in ("--peer", f"127.0.0.1:{port}")]
        for number, (dataplane, envoy) in enumerate(zip(self._named_by, self.envoys, strict=False)):
            hear = ("--peer-listen", f"127.0.0.1:{ports[number]}") if ports else ()
            await dataplane.start(envoy.admin_url, *hear, *tell)
        for dataplane in self._named_by if not self._late else ():
            await dataplane.wait_named(2)

    async def join(self, at: float) -> None:
        """Writes the nodes that are there at this moment of the run."""
        self.write(*self.list_objects(at))

    async def count_overdue(self) -> int | None:
        """As Envoy counts them; None where no node is named."""
        return sum([await envoy.stat(TIMEOUTS) for envoy in self.envoys]) if self._way.precise else None

    async def _start(self) -> None:
        self.write(*self._objects)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        http = await self._running.enter_async_context(aiohttp.ClientSession())
        loaded: Latest[Loaded] = Latest()
        decided: Latest[Snapshot] = Latest()
        told: Latest[Snapshot] = Latest()
        self.server = AdsServer("weighbridge", told, warmth=ask_over(http))
        entrance = Entrance(port=self.port)
        self.loop = LateLoop(loaded, self.server.states, decided, scope=Scope(), entrance=entrance)
        self.loop.delay = self._late
        self.loop.seen = self._fleet.metrics.envoys_seen
        self.reporter = Reporter(self.loop, self.url, time.monotonic)
        self.xds_port = await self.server.start("127.0.0.1:0")
        self._running.push_async_callback(self.server.stop, 0.1)
        work = [self._feed(loaded), self.loop.run(), self._tell(decided, told)]
        self._tasks = [asyncio.create_task(one) for one in work]
        if self._way.precise:
            enter = self._running.enter_async_context
            self._named_by = [await enter(Dataplane(self._late)) for _ in range(self._count)]
        for number in range(self._count):
            self.envoys.append(await self._running.enter_async_context(self._make_envoy(number)))
        await self.settle()
        await self._start_dataplanes()

    async def settle(self, limit: float = 60.0) -> None:
        """Waits until every Envoy holds what it was offered, which for a rival is not what the product decided."""
        version, states = 0, EnvoyStates()
        try:
            async with asyncio.timeout(limit):
                while len(states.envoys) < self._count or not all(envoy.current for envoy in states.envoys):
                    states, version = await self.server.states.wait_newer(version)
        except TimeoutError:
            told = [refusal.text for e in states.envoys for kind in e.kinds for _, refusal in kind.refusals]
            raise RuntimeError(f"Envoys did not take what they were offered within {limit:g} s: {told}") from None

    async def _tell(self, decided: Latest[Snapshot], told: Latest[Snapshot]) -> None:
        version, before = 0, None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    _, version = await decided.wait_newer(version)
            snapshot = decided.get()
            if snapshot is None:
                continue
            if self.told is None and any(fact.finding for fact in self._facts()):
                self.told = time.monotonic()
            after = self._rewrite(snapshot)
            if before is None or after.versions != before.versions:
                # What a choice per request is told of others is no change of weights.
                self.pushes += before is not None and after.version != before.version
                before = after
                self.turns.note(time.monotonic(), [self.weights().get(name, 0) for name in self.members])
                told.set(after)

    def _rewrite(self, snapshot: Snapshot) -> Snapshot:
        way = self._way
        if way.envoy is None:
            return snapshot
        weights = way.weigh(self.scores()) if way.weigh else {}
        return build(
            clusters=[_with_policy(r, *way.envoy) for r in snapshot.clusters.values()],
            endpoints=[_with_weights(r, weights) for r in snapshot.endpoints.values()],
            listeners=[_parse(Listener, r) for r in snapshot.of(LISTENER).values()],
            routes=[_parse(RouteConfiguration, r) for r in snapshot.of(ROUTE).values()],
        )

    def _facts(self) -> list[NodeFacts]:
        return [fact for verdict in self.loop.weighed.verdicts.values() for fact in verdict.facts.values()]

    def scores(self) -> dict[str, float]:
        """The newest scores by node; one that is unknown counts as 0, as most that use scores do."""
        return {fact.node.partition("/")[2]: fact.score.value if fact.score else 0.0 for fact in self._facts()}

    def weights(self) -> dict[str, int]:
        """What the product itself would tell now, by node."""
        return {n.partition("/")[2]: w for by_node in self.loop.weighed.weights.values() for n, w in by_node.items()}


def _parse(kind: Any, resource: Resource) -> Any:
    message = kind()
    message.ParseFromString(resource.body)
    return message


def _with_policy(resource: Resource, kind: str, fields: Mapping[str, Any]) -> Message:
    assert resource.type_url == CLUSTER
    cluster: Cluster = _parse(Cluster, resource)
    if cluster.type != Cluster.EDS:
        return cluster  # a chain of clusters, which picks none of the nodes itself
    cluster.ClearField("load_balancing_policy")
    name = f"envoy.load_balancing_policies.{kind.partition('.')[0]}"
    packed = {"@type": f"type.googleapis.com/{_POLICIES}.{kind}", **fields}
    chosen = {"policies": [{"typed_extension_config": {"name": name, "typed_config": packed}}]}
    json_format.ParseDict(chosen, cluster.load_balancing_policy)
    return cluster  # type: ignore[no-any-return]


def _with_weights(resource: Resource, weights: Mapping[str, int]) -> Message:
    assert resource.type_url == ENDPOINT
    assignment: ClusterLoadAssignment = _parse(ClusterLoadAssignment, resource)
    for locality in assignment.endpoints:
        for endpoint in locality.lb_endpoints:
            told = endpoint.metadata.filter_metadata["weighbridge"].fields["node"].string_value
            endpoint.load_balancing_weight.value = weights.get(told, 1)
    return assignment  # type: ignore[no-any-return]
