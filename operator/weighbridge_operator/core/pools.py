"""Which nodes are weighed against each other: one pool for each set of nodes that some requests may go to.

Envoy counts active requests per cluster and host, so of a node that stood in two clusters each would see only its own
requests. Hence equal sets share one pool, whichever models and policies lead to it; only another way of
balancing makes a pool of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.core import ir
from weighbridge_operator.core.endpoints import Server
from weighbridge_operator.core.engines import COUNTS, list_published
from weighbridge_operator.core.score import PROFILES

NO_POLICY = "default"


@dataclass(frozen=True, slots=True, order=True)
class Demand:
    """What asks for a pool: requests of a kind for a model (perhaps one version), under a policy ("" for none)."""

    policy: str
    model: str
    version: str
    kind: ir.Kind

    @property
    def title(self) -> str:
        version = f"@{self.version}" if self.version else ""
        # A policy may be called as having none is.
        policy = f"policy {self.policy}" if self.policy == NO_POLICY else self.policy or NO_POLICY
        kind = "" if self.kind == ir.Kind("text") else f" ({self.kind})"
        return f"{policy}: {self.model}{version}{kind}"


def select_servers(servers: Iterable[Server], demand: Demand, policy: RoutePolicy | None) -> tuple[Server, ...]:
    """The servers that the policy names and that serve the demand, sorted by name."""
    return tuple(
        sorted(
            (s for s in servers if is_named(s.node, policy) and _serves(s.node, demand)),
            key=lambda server: server.endpoint.node,
        )
    )


def select_nodes(nodes: Iterable[ModelNode], demand: Demand, policy: RoutePolicy | None) -> tuple[ModelNode, ...]:
    """The same of nodes, whether or not a server of them is ready."""
    return tuple(node for node in nodes if is_named(node, policy) and _serves(node, demand))


def is_named(node: ModelNode, policy: RoutePolicy | None) -> bool:
    """Whether the policy speaks of the node: one of its own namespace that carries its labels."""
    if policy is None:
        return True
    if node.metadata.namespace != policy.metadata.namespace:
        return False
    wanted = policy.spec.nodes.match_labels if policy.spec.nodes else {}
    return wanted.items() <= node.metadata.labels.items()


def _serves(node: ModelNode, demand: Demand) -> bool:
    kind = demand.kind
    return node.spec.format == kind.format and any(
        m.name == demand.model and kind.type in m.types and demand.version in ("", m.version) for m in node.spec.models
    )


def balance_of(servers: Iterable[Server], policy: RoutePolicy | None) -> ir.Balance:
    """How the pool is balanced: as the policy says, else by what its engines publish."""
    asked = policy.spec.balance if policy else None
    publishes = all(list_published(server.node.spec) >= COUNTS for server in servers)
    name = (asked.profile if asked else None) or ("llm" if publishes else "classic")
    profile = PROFILES[name]
    custom = tuple(sorted((s, w) for s, w in asked.weights.items() if w > 0)) if asked else ()
    return ir.Balance(
        profile=name,
        weights=custom or profile.weights,
        queue_maximum=(asked.queue_maximum if asked else None) or profile.queue_maximum,
        custom=bool(custom),
    )


class Pools:
    """Collects demands; equal sets of nodes under equal balance become one pool, named after its first demand."""

    def __init__(self) -> None:
        self._members: dict[tuple[tuple[str, ...], ir.Balance], tuple[Server, ...]] = {}
        self._demands: dict[tuple[tuple[str, ...], ir.Balance], list[Demand]] = defaultdict(list)
        self._keys: dict[Demand, tuple[tuple[str, ...], ir.Balance]] = {}

    def add(self, demand: Demand, servers: tuple[Server, ...], policy: RoutePolicy | None) -> None:
        key = (tuple(server.endpoint.node for server in servers), balance_of(servers, policy))
        self._members[key] = servers
        self._demands[key].append(demand)
        self._keys[demand] = key

    def settle(self) -> tuple[tuple[ir.Pool, ...], Mapping[Demand, str]]:
        """The pools by name, and each demand's pool. A pool is named after its smallest demand: content, no history."""
        names = {key: min(demands).title for key, demands in self._demands.items()}
        pools = [
            ir.Pool(
                name=names[key],
                parts=_split(names[key], servers),
                balance=key[1],
                serves=tuple(dict.fromkeys(demand.title for demand in sorted(self._demands[key]))),
            )
            for key, servers in self._members.items()
        ]
        return (
            tuple(sorted(pools, key=lambda pool: pool.name)),
            {demand: names[key] for demand, key in self._keys.items()},
        )


def _split(pool: str, servers: tuple[Server, ...]) -> tuple[ir.Part, ...]:
    groups: dict[tuple[ir.HealthCheck | None, tuple[str, str, str] | None], list[ir.Endpoint]] = defaultdict(list)
    for server in servers:
        groups[(server.health, server.credential)].append(server.endpoint)
    if len(groups) <= 1:
        health, credential = next(iter(groups), (None, None))
        return (ir.Part(pool, tuple(e for g in groups.values() for e in g), health, credential),)
    parts = [
        ir.Part(_part_name(pool, health, credential), tuple(endpoints), health, credential)
        for (health, credential), endpoints in groups.items()
    ]
    return tuple(sorted(parts, key=lambda part: part.name))


def _part_name(pool: str, health: ir.HealthCheck | None, credential: tuple[str, str, str] | None) -> str:
    check = f"{health.path} each {health.interval:g}s" if health else "no check"
    return f"{pool} / {check} / {'/'.join(credential) if credential else 'no credential'}"
