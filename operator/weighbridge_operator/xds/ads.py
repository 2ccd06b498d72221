"""One ADS stream as a protocol without I/O: requests and snapshots in, responses out. Knows no clock but the caller's.

State of the world, not delta: each response says all that the Envoy must know, so there is no second bookkeeping of
what was removed, which delta needs and Envoy treats unevenly (it ignores removals of assignments). Its price, that a
response is refused as a whole, is paid by sending assignments, routes and secrets apart (in at most `spread` responses
for one change, because each acknowledgement repeats every name).

Level, not edge: after every event the difference between what is wanted and what the Envoy holds decides what is sent,
so whatever arrives in between is coalesced. Make before break:
1 clusters: the new ones and those that a route which the Envoy holds still refers to; a cluster of clusters changes
  like a route, when those that it leads to can serve
2 assignments and secrets; an assignment goes again behind each change of its cluster, which waits for it. A cluster
  that routes are about to leave with something changes behind them, its nodes too (`moves`): for a data plane as well
3 listeners, then routes, when every cluster they lead to is accepted, has its assignment and is warm, or was refused
4 clusters without the old ones, when the routes are accepted.
Warmth is not visible in the protocol, but for once: an Envoy that starts asks for listeners when its first clusters are
warm (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/operations/init), and answers no look at them
before it has some. `waits_for_warmth` names the clusters; the caller looks and says `warmed`, and after `patience`
seconds the stream goes on anyway.

Refusals are remembered for each Envoy, over its reconnects, and never shared: an Envoy of another version may accept
what this one refused, and one broken Envoy must not keep a change from the others.
Silent until the first snapshot: an answer without objects deletes the data plane.
https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from weighbridge_operator.xds.envoys import KindState, describe
from weighbridge_operator.xds.exchange import Exchange, Request, Response
from weighbridge_operator.xds.kinds import CLUSTER, COMPLETE, ENDPOINT, KINDS, LISTENER, ROUTE, RUNTIME, SECRET
from weighbridge_operator.xds.memory import Memory
from weighbridge_operator.xds.moves import Moves, keep_reachable
from weighbridge_operator.xds.snapshot import Resource, Snapshot, empty_assignment

PATIENCE = 2.0  # seconds
SPREAD = 64


class Conversation:
    """One stream with one Envoy. Every event answers the responses to send, in order."""

    def __init__(self, memory: Memory | None = None, *, patience: float = PATIENCE, spread: int = SPREAD) -> None:
        self._memory = memory
        remembered = memory or Memory()
        self._exchanges = {kind: Exchange(kind, remembered) for kind in KINDS}
        self._moves = Moves(self._exchanges[CLUSTER], self._exchanges[ROUTE])
        self._warm = set(remembered.warm)
        self._perhaps = remembered.perhaps
        self._cooling: dict[str, float] = {}  # cluster -> since when it is accepted, with its assignment, but not warm
        self._target: Snapshot | None = None
        self._left: dict[str, dict[str, Resource]] = {}  # by kind: wanted no more, but a cluster on its way needs it
        self._patience, self._spread = patience, spread
        self._nonce, self._begun, self._resumed = 0, False, False

    def receive(self, request: Request, now: float) -> tuple[Response, ...]:
        """Takes a request; one of an unknown type is ignored."""
        if request.kind not in self._exchanges:
            return ()
        if not self._begun:
            self._begin(resumed=request.version != "")
        exchange = self._exchanges[request.kind]
        comes_up = request.kind == LISTENER and not (self._resumed or exchange.subscribed)
        exchange.hear(request, now)
        if comes_up:
            # Often before it acknowledges the last assignment, whose cluster it has warmed.
            clusters = self._exchanges[CLUSTER]
            self._warm |= {name for name, held in clusters.held.items() if (clusters.sent or {}).get(name) == held}
        return self._advance(now)

    def offer(self, snapshot: Snapshot, now: float) -> tuple[Response, ...]:
        """Makes this snapshot the one to reach."""
        self._left = {kind: dict(self._find_left(kind, snapshot)) for kind in (ENDPOINT, SECRET)}
        self._target = snapshot
        for kind, exchange in self._exchanges.items():
            exchange.keep_refusals_of(snapshot.of(kind))
        self._exchanges[ROUTE].recognise(snapshot.routes)
        return self._advance(now)

    def _find_left(self, kind: str, snapshot: Snapshot) -> Iterator[tuple[str, Resource]]:
        # Envoy accepts no set of clusters while one of it waits for this: 15 s, in which no other change comes through.
        known = {**self._left.get(kind, {}), **(self._target.of(kind) if self._target is not None else {})}
        for cluster in self._exchanges[CLUSTER].flying():
            for needed, name in cluster.needs:
                if needed == kind and name in known and name not in snapshot.of(kind):
                    yield name, known[name]

    def warmed(self, clusters: Collection[str], now: float) -> tuple[Response, ...]:
        """These clusters, named by `waits_for_warmth` before the caller looked, are warm now."""
        self._warm |= self._cooling.keys() & set(clusters)
        return self._advance(now)

    def tick(self, now: float) -> tuple[Response, ...]:
        """Time has passed; due at `deadline`."""
        return self._advance(now)

    @property
    def waits_for_warmth(self) -> frozenset[str]:
        return frozenset(self._cooling)

    @property
    def deadline(self) -> float | None:
        """When patience ends with the oldest cold cluster, or with routes that others wait for, or None."""
        ends = [self._moves.deadline, *(since + self._patience for since in self._cooling.values())]
        return min((end for end in ends if end is not None), default=None)

    @property
    def settled(self) -> bool:
        """Whether no response waits for a verdict and no cluster for warmth."""
        return not self._cooling and not any(exchange.outstanding for exchange in self._exchanges.values())

    @property
    def refusal_count(self) -> int:
        """How many contents this Envoy refuses now."""
        return sum(len(exchange.refused) for exchange in self._exchanges.values())

    @property
    def memory(self) -> Memory:
        """What the next stream of this Envoy should know."""
        return Memory(
            {kind: dict(exchange.held) for kind, exchange in self._exchanges.items()},
            frozenset(self._warm),
            {kind: exchange.verdicts for kind, exchange in self._exchanges.items()},
            {kind: exchange.versions for kind, exchange in self._exchanges.items()},
            (*self._perhaps_held(), *self._exchanges[ROUTE].flying()),
        )

    def states(self) -> tuple[KindState, ...]:
        """Each type, in the order of making; empty before the first snapshot."""
        if self._target is None:
            return ()
        # The runtime is told every other second, and nothing serves by it.
        kinds = ((kind, exchange) for kind, exchange in self._exchanges.items() if kind != RUNTIME)
        return tuple(describe(exchange, self._target.versions[kind], self._target.of(kind)) for kind, exchange in kinds)

    def _begin(self, *, resumed: bool) -> None:
        self._begun, self._resumed = True, resumed
        for kind, exchange in self._exchanges.items():
            if not resumed:
                exchange.forget()
            elif kind in COMPLETE:
                exchange.past_known = self._memory is not None and kind in self._memory.held
        if not resumed:
            self._warm.clear()
            self._perhaps = ()

    def _advance(self, now: float) -> tuple[Response, ...]:
        target = self._target
        if target is None:
            return ()
        self._feel_warmth(target, now)
        waiting = self._list_waiting(target, now)
        responses = [*self._send_set(CLUSTER, lambda: self._choose_clusters(target, waiting))]
        responses += self._send_named(target, waiting)
        if all(self._leads_somewhere(target, listener) for listener in target.listeners.values()):
            responses += self._send_set(LISTENER, lambda: self._exchanges[LISTENER].choose_set(target.listeners))
        responses += self._send_routes(target)
        if waiting:
            responses += self._send_named(target, self._list_waiting(target, now))
        return tuple(responses)

    def _list_waiting(self, target: Snapshot, now: float) -> frozenset[str]:
        return self._moves.list_waiting(target, tuple(self._perhaps_held()), now)

    def _send_named(self, target: Snapshot, waiting: Collection[str]) -> Iterator[Response]:
        for kind in (ENDPOINT, SECRET, RUNTIME):
            wanted = {**self._left.get(kind, {}), **target.of(kind)}
            if waiting and kind != SECRET:
                known = self._exchanges[kind].list_known()
                wanted |= {name: held for name, held in known.items() if kind == RUNTIME or name in waiting}
            yield from self._send_each(kind, wanted)

    def _choose_clusters(self, target: Snapshot, waiting: Collection[str]) -> dict[str, Resource] | None:
        exchange, routes = self._exchanges[CLUSTER], self._exchanges[ROUTE]
        held, listeners = exchange.held, self._exchanges[LISTENER].held
        chosen = exchange.choose_set(
            target.clusters, lambda c: c.name not in waiting and self._leads_somewhere(target, c)
        )
        if chosen is None:
            return None
        led = keep_reachable(routes.held.values(), routes, self._exchanges[LISTENER])
        referrers = [*led, *routes.flying(), *self._perhaps_held(), *listeners.values()]
        referrers += [cluster for name, cluster in held.items() if name in chosen]
        while referrers:
            for kind, name in referrers.pop().needs:
                if kind == CLUSTER and name not in chosen and name in held and exchange.wants(name):
                    chosen[name] = held[name]
                    referrers.append(held[name])
        return dict(sorted(chosen.items()))

    def _perhaps_held(self) -> Iterator[Resource]:
        routes = self._exchanges[ROUTE]
        for route in keep_reachable(self._perhaps, routes, self._exchanges[LISTENER]):
            if route.name not in routes.confirmed and (not routes.subscribed or route.name in routes.names):
                yield route

    def _send_set(self, kind: str, choose: Callable[[], dict[str, Resource] | None]) -> Iterator[Response]:
        exchange = self._exchanges[kind]
        if not exchange.subscribed or exchange.outstanding:
            return
        chosen = choose()
        while chosen is not None and exchange.convict(chosen):
            chosen = choose()
        if chosen is None or chosen == exchange.sent:
            return
        for name, resource in chosen.items():
            if exchange.unsure or exchange.held.get(name) != resource:
                self._owe(resource)
                if kind == CLUSTER:
                    self._cool(name)
        if kind == CLUSTER:
            for name in exchange.held.keys() - chosen.keys():
                self._drop_cluster(name)
        yield exchange.send(self._next_nonce(), tuple(chosen.values()))

    def _owe(self, resource: Resource) -> None:
        # The changed resource subscribes anew and waits; its own request may be joined with an acknowledgement.
        for kind, name in resource.needs:
            if kind not in COMPLETE and name in self._exchanges[kind].names:
                self._exchanges[kind].due.add(name)

    def _cool(self, name: str) -> None:
        # Envoy makes a changed cluster anew beside the old one, which serves on until the new one is warm.
        self._warm.discard(name)
        self._cooling.pop(name, None)

    def _drop_cluster(self, name: str) -> None:
        self._cool(name)
        for kind, needed in self._exchanges[CLUSTER].held[name].needs:
            if kind == ENDPOINT:
                self._exchanges[ENDPOINT].held.pop(needed, None)
                self._left[ENDPOINT].pop(needed, None)

    def _send_each(self, kind: str, target: Mapping[str, Resource]) -> Iterator[Response]:
        exchange = self._exchanges[kind]
        ready = []
        for name in sorted(exchange.names):
            resource = exchange.choose(target, name)
            if resource is None and kind == ENDPOINT and name in target:
                # Refused, and nothing held: without an answer the cluster waits 15 s, and a starting Envoy with it.
                resource = empty_assignment(name)
            if resource is None or exchange.is_flying(name):
                continue
            if name in exchange.due or exchange.held.get(name) != resource:
                ready.append(resource)
        for group in exchange.group(ready, max(1, -(-len(ready) // self._spread))):
            yield exchange.send(self._next_nonce(), group)

    def _send_routes(self, target: Snapshot) -> Iterator[Response]:
        exchange = self._exchanges[ROUTE]
        servable = {
            name: route if self._leads_somewhere(target, route) else exchange.held[name]
            for name, route in target.routes.items()
            if name in exchange.held or self._leads_somewhere(target, route)
        }
        yield from self._send_each(ROUTE, servable)

    def _leads_somewhere(self, target: Snapshot, referrer: Resource) -> bool:
        for kind, name in referrer.needs:
            if kind == CLUSTER and not self._can_serve(target, name):
                return False
            if kind == ROUTE and not self._leads_somewhere(target, target.routes[name]):
                return False
        return True

    def _can_serve(self, target: Snapshot, name: str) -> bool:
        cluster = target.clusters.get(name)
        if cluster is None:
            return True  # not ours to make: the bootstrap's
        if name in self._warm:
            return self._leads_somewhere(target, cluster)
        exchange = self._exchanges[CLUSTER]
        return exchange.is_refused(cluster) and name not in exchange.held and exchange.past_known

    def _feel_warmth(self, target: Snapshot, now: float) -> None:
        held, sent = self._exchanges[CLUSTER].held, self._exchanges[CLUSTER].sent or {}
        for name in held.keys() & sent.keys() - self._warm - self._cooling.keys():
            if held[name] == sent[name] and self._is_fed(target, sent[name]):
                self._cooling[name] = now
        self._warm |= {name for name, since in self._cooling.items() if now >= since + self._patience}
        self._cooling = {name: since for name, since in self._cooling.items() if name not in self._warm}

    def _is_fed(self, target: Snapshot, cluster: Resource) -> bool:
        for kind, name in cluster.needs:
            if kind in (ENDPOINT, SECRET) and name not in self._exchanges[kind].held:
                wanted = target.get(kind, name)
                if wanted is None or not self._exchanges[kind].is_refused(wanted):
                    return False
        return True

    def _next_nonce(self) -> str:
        self._nonce += 1
        return str(self._nonce)
