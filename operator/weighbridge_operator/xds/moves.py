"""What stays as it is until routes have moved: a cluster that they are about to leave with something, and its nodes.

Other nodes, or another form of the cluster, may not serve what is still led there. So both change when the Envoy has
the routes; where something comes to the cluster as well, right behind the routes; and after LIMIT anyway, for its nodes
may have changed because one died. A form that what comes may need changes at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from weighbridge_operator.xds.exchange import Exchange
from weighbridge_operator.xds.kinds import ROUTE
from weighbridge_operator.xds.snapshot import Resource, Snapshot

LIMIT = 5.0  # seconds: a move takes an Envoy's patience with a cold cluster, 2 s, and some round trips


class Moves:
    """What waits on one stream, and until when."""

    def __init__(self, clusters: Exchange, routes: Exchange) -> None:
        self._clusters, self._routes = clusters, routes
        self._until: dict[str, float | None] = {}  # None: no longer

    @property
    def deadline(self) -> float | None:
        """When the first that waits does no longer, or None."""
        return min((until for until in self._until.values() if until is not None), default=None)

    def list_waiting(self, target: Snapshot, perhaps: Collection[Resource], now: float) -> frozenset[str]:
        """The clusters that wait for the target's routes. `perhaps`: other routes that the Envoy may hold."""
        found = self._find(target, perhaps)
        self._until = {name: self._say_until(name, now) for name in found}
        return frozenset(name for name, until in self._until.items() if until is not None)

    def _say_until(self, name: str, now: float) -> float | None:
        until = self._until.get(name, now + LIMIT)
        return until if until is not None and now < until else None

    def _find(self, target: Snapshot, perhaps: Collection[Resource]) -> frozenset[str]:
        routes = self._routes
        doubtful = {route.name for route in perhaps}
        known = routes.held.keys() | doubtful
        coming = [
            route
            for name, route in target.routes.items()
            if name in known and (name in doubtful or routes.is_flying(name) or not routes.holds(route))
        ]
        if all(routes.is_refused(route) for route in coming):
            return frozenset()
        wanted = _list_leads(target.routes.values())
        left = _list_leads((*routes.held.values(), *routes.flying(), *perhaps)) - wanted
        joined = {cluster for cluster, _ in wanted - _list_leads(routes.held.values())}
        told = {(route.name, route.version) for route in routes.flying()}
        on_their_way = all((route.name, route.version) in told for route in coming)
        return frozenset(
            name
            for name, _ in left
            if (cluster := target.clusters.get(name)) is not None
            and (name not in joined or (self._clusters.holds(cluster) and not on_their_way))
        )


def _list_leads(routes: Iterable[Resource]) -> set[tuple[str, str]]:
    return {lead for route in routes for lead in route.leads}


def keep_reachable(some: Iterable[Resource], routes: Exchange, listeners: Exchange) -> list[Resource]:
    """These routes without those that no listener leads to: an Envoy that has no listener left asks for no routes."""
    if routes.subscribed or not listeners.past_known:
        return list(some)
    needed = {need for each in (*listeners.held.values(), *listeners.flying()) for need in each.needs}
    return [route for route in some if (ROUTE, route.name) in needed]
