"""A Report's nodes as rows: pool by pool, and those that stand in no pool at the end."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge_operator.report import EndpointReport, ObjectReport, PoolReport, Report
from weighbridge_operator.views import words
from weighbridge_operator.views.lines import Line, Span, clean

NODE, POLICY = "ModelNode", "RoutePolicy"
SHOWN = 3  # of what else leads to a pool


@dataclass(frozen=True, slots=True)
class Row:
    """One node in one pool, or in none."""

    label: str  # as short as the report's namespaces allow
    node: ObjectReport
    endpoint: EndpointReport | None


@dataclass(frozen=True, slots=True)
class Group:
    """A pool's rows. `pool` is None for the nodes in no pool."""

    pool: PoolReport | None
    rows: tuple[Row, ...]


def group(report: Report) -> tuple[Group, ...]:
    """Every node of the report at least once."""
    nodes = [o for o in report.objects if o.kind == NODE]
    plain = len({o.namespace for o in nodes}) <= 1
    members: dict[str, list[Row]] = {pool.name: [] for pool in report.pools}
    alone = []
    for node in nodes:
        label = clean(node.name if plain else f"{node.namespace}/{node.name}")
        for endpoint in node.endpoints:
            whole = f"{label}/{clean(endpoint.name)}" if endpoint.name else label
            members.setdefault(endpoint.pool, []).append(Row(whole, node, endpoint))
        if not node.endpoints:
            alone.append(Row(label, node, None))
    known = {pool.name: pool for pool in report.pools}
    groups = [Group(known.get(name), tuple(rows)) for name, rows in members.items() if rows]
    return (*groups, Group(None, tuple(alone))) if alone else tuple(groups)


def title(found: Group) -> Line:
    """The pool in one line."""
    pool = found.pool
    if pool is None:
        return (Span("in no pool", "bold"),)
    equal = "weights equal, Envoy picks by its own counts" if pool.equal else "weights differ"
    guard = f" · others' load ignored for {words.seconds(pool.guard)}, it swung" if pool.guard else ""
    pushes = f"{pool.pushes} change{'' if pool.pushes == 1 else 's'}"
    rest = f" · {pool.profile} · load {words.score(pool.load)} · {equal}, {pushes}{guard}"
    return (Span(f"pool {clean(pool.name)}", "bold"), Span(f"{_list_others(pool)}{rest}", "dim"))


def _list_others(pool: PoolReport) -> str:
    """What else leads to the same nodes: the name is only the first of it."""
    others = [name for name in pool.serves if name != pool.name]
    shown = ", ".join(clean(name) for name in others[:SHOWN])
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return f" (also {shown}{more})" if others else ""
