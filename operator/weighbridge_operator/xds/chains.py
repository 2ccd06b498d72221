"""Which cluster a route names: a part's own, or a chain that goes on where one has no node left.

A chain lists the parts of the preferred pool, then those of the pools behind it. A pool of several parts is spread over
its chains by the room that the user gave: this split is configuration, load never moves it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from weighbridge_operator.core import ir
from weighbridge_operator.xds.endpoint import base_of, names_of
from weighbridge_operator.xds.names import name_chain, name_cluster, name_first
from weighbridge_operator.xds.paths import BASES

#: On a chain's preferred cluster, before one goes to the next: a request that failed on two nodes is not kept waiting.
TRIES = 2
#: For each part of the preferred pool: the clusters to try in order, and its weight.
_Orders = list[tuple[tuple[str, ...], int]]


@dataclass(frozen=True, slots=True)
class Target:
    """Clusters with their weights, and whether requests are adapted to the node there.

    `patience`: how many tries go to the preferred cluster before one goes to the next; None where there is no next.
    `alone`: there is one node, and nothing else to try.
    """

    clusters: tuple[tuple[str, int], ...]
    adapts: bool
    patience: int | None = None
    alone: bool = False

    @property
    def ways(self) -> tuple[str, ...]:
        """Where requests go whose node was named, for each part of the preferred pool; empty where it is a plain one.

        To be used where rules are precise: for others there are no such clusters.
        """
        return tuple(name_first(name) for name, _ in self.clusters) if self.patience is not None else ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What the routes of a gateway need of clusters."""

    parts: Mapping[str, ir.Part]  # by cluster name
    pools: Mapping[str, ir.Pool]
    adapting: frozenset[str]  # clusters that must adapt requests, because some route that names them needs it
    budgets: Mapping[str, float]  # retry budget in percent by cluster name
    chains: Mapping[str, tuple[str, ...]]  # members by chain name
    targets: Mapping[tuple[tuple[ir.Destination, ...], str], Target]  # by where requests go, and what they ask for
    precise: frozenset[str] = frozenset()  # clusters whose nodes may be named for a request
    firsts: frozenset[str] = frozenset()  # chains in whose first cluster a node may be named: each has a `name_first`

    def target(self, destinations: tuple[ir.Destination, ...], asked: str) -> Target:
        """Where requests for `asked` go."""
        return self.targets[destinations, asked]

    def candidates(self, destinations: tuple[ir.Destination, ...]) -> tuple[str, ...]:
        """The clusters of the preferred pool, of which a node may be named for a request."""
        return _list_preferred(self.pools, destinations)

    @property
    def followed(self) -> frozenset[str]:
        """The clusters that have another behind them in some chain."""
        return frozenset(member for members in self.chains.values() for member in members[:-1])

    def credentials(self, members: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
        """What the nodes of these clusters are sent to let requests in, sorted."""
        found = {self.parts[member].credential for member in members}
        return tuple(sorted(credential for credential in found if credential is not None))

    def format(self, members: Iterable[str]) -> ir.Format:
        """The API that the nodes of these clusters speak."""
        return next((self.parts[m].format for m in members if self.parts[m].endpoints), "openai")


def plan_clusters(gateway: ir.Gateway) -> Plan:
    """Every cluster and chain that the gateway's routes name."""
    pools = {pool.name: pool for pool in gateway.pools}
    parts = {name_cluster(part.name): part for pool in gateway.pools for part in pool.parts}
    adapting: set[str] = set()
    budgets: dict[str, float] = {}
    chains: dict[str, tuple[str, ...]] = {}
    precise: set[str] = set()
    firsts: set[str] = set()
    drafts: dict[tuple[tuple[ir.Destination, ...], str], tuple[_Orders, bool]] = {}
    for rule, destinations, asked in _uses(gateway):
        if (destinations, asked) not in drafts:
            needs = _needs_adapting(pools, destinations, asked)
            drafts[destinations, asked] = (_orders(pools, destinations), needs)
        orders, needs = drafts[destinations, asked]
        if rule.precise:
            precise.update(_list_preferred(pools, destinations))
        for members, _ in orders:
            name = _name(members, needs)
            if len(members) > 1:
                chains[name] = members
                firsts.update([name] if rule.precise else ())
            if needs:
                adapting.add(name)
            for cluster in {name, *members}:
                budgets[cluster] = max(budgets.get(cluster, 0.0), rule.retry.budget)
    targets = {key: _aim(parts, orders, needs, adapting) for key, (orders, needs) in drafts.items()}
    return Plan(parts, pools, frozenset(adapting), budgets, chains, targets, frozenset(precise), frozenset(firsts))


def _aim(parts: Mapping[str, ir.Part], orders: _Orders, needs: bool, adapting: Collection[str]) -> Target:
    named = tuple((_name(members, needs), weight) for members, weight in orders)
    chained = [len(parts[members[0]].endpoints) for members, _ in orders if len(members) > 1]
    patience = max(1, min(TRIES, *chained)) if chained else None
    alone = not chained and sum(len(parts[members[0]].endpoints) for members, _ in orders) == 1
    return Target(named, any(name in adapting for name, _ in named), patience, alone)


def _list_preferred(pools: Mapping[str, ir.Pool], destinations: tuple[ir.Destination, ...]) -> tuple[str, ...]:
    return tuple(name_cluster(part.name) for part in pools[destinations[0].pool].parts)


def _uses(gateway: ir.Gateway) -> Iterable[tuple[ir.Rule, tuple[ir.Destination, ...], str]]:
    for entry in gateway.entries:
        for rule in entry.rules:
            for branch in rule.branches:
                yield rule, branch.destinations, entry.key or rule.default or ""


def _orders(pools: Mapping[str, ir.Pool], destinations: tuple[ir.Destination, ...]) -> _Orders:
    first = pools[destinations[0].pool].parts
    rest = [name_cluster(part.name) for d in destinations[1:] for part in pools[d.pool].parts]
    orders = []
    for part in first:
        own = name_cluster(part.name)
        others = [name_cluster(other.name) for other in first if other != part]
        orders.append((tuple(dict.fromkeys([own, *others, *rest])), _room(part)))
    return orders


def _name(members: tuple[str, ...], adapts: bool) -> str:
    """Where these clusters are tried in order: the only one, or their chain, of which there may be two."""
    return members[0] if len(members) == 1 else name_chain(members, adapts)


def _room(part: ir.Part) -> int:
    return max(1, round(100 * sum(endpoint.capacity or 1.0 for endpoint in part.endpoints)))


def _needs_adapting(pools: Mapping[str, ir.Pool], destinations: tuple[ir.Destination, ...], asked: str) -> bool:
    return any(
        base_of(endpoint) != BASES[endpoint.format] or names_of(endpoint).get(destination.key, asked) != asked
        for destination in destinations
        for endpoint in pools[destination.pool].endpoints
    )
