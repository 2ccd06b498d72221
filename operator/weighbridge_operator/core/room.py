"""How many requests fill each node of a pool, relative to each other: the one input that must be right.

What the user gives comes first; else the KV tokens that engines publish, trusted up to 2:1 and only while KV is short,
because it is not room where compute binds; else all are equal. A node whose room is not known yet takes the smallest
known, so that a joining node never makes an uneven pool even. Room is not speed: a slow node of equal room stays equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from weighbridge_operator.core import ir
from weighbridge_operator.core.memory import nearest

Source = Literal["given", "published", "converted", "not short", "smallest known", "default"]

BAND: Final = 1.4  # a spread below it is equal
TRUST: Final = 2.0  # published rooms differ at most by this
BOUND: Final = 16.0  # from the pool's median
GRID: Final = 4  # steps in an octave
HYSTERESIS: Final = 0.75  # of a step, before a published room or the median moves a node
CONTRADICTION: Final = 1.5
#: KV in use per node, of the smallest node's: where published rooms begin to count, and where they cease to.
SHORT, AMPLE = 0.9, 0.6


@dataclass(frozen=True, slots=True)
class Room:
    """A node's room as a factor of the pool's median, on the grid."""

    value: float
    source: Source
    raw: float | None  # in the user's unit, or tokens
    step: int | None  # on the grid; None while the pool counts as equal
    finding: str | None = None


def rooms(
    endpoints: Mapping[str, ir.Endpoint],
    tokens: Mapping[str, float],
    before: Mapping[str, tuple[float | None, int | None]],
    short: bool = True,
) -> dict[str, Room]:
    """Each node's room. `tokens` are the published ones, `before` the last raw room and grid step of each node.

    `short` says whether KV is short in the pool, so that published rooms count.
    """
    known = _known(endpoints, tokens)
    if known and not short and all(source == "published" for _, source in known.values()):
        return {n: Room(1.0, "not short", known[n][0] if n in known else None, None) for n in endpoints}
    if not known:
        return {node: Room(1.0, "default", None, None) for node in endpoints}
    smallest = min(raw for raw, _ in known.values())
    full: dict[str, tuple[float, Source]] = {n: known.get(n, (smallest, "smallest known")) for n in endpoints}
    findings = _contradictions(endpoints, tokens)
    raws = [raw for raw, _ in full.values()]
    if max(raws) < BAND * min(raws):
        return {n: Room(1.0, source, raw, None, findings.get(n)) for n, (raw, source) in full.items()}
    middle = median(raws)
    result = {}
    for node, (raw, source) in full.items():
        x = GRID * math.log2(min(BOUND, max(1 / BOUND, raw / middle)))
        step = _settle(x, raw, source, before.get(node, (None, None)))
        result[node] = Room(2 ** (step / GRID), source, raw, step, findings.get(node))
    return result


def shortage(tokens: Mapping[str, float], used: Mapping[str, float]) -> float | None:
    """KV in use per node, as a part of the smallest node's; None while any is unknown. `used` are shares 0..1."""
    if not tokens or any(n not in used for n in tokens):
        return None
    return math.fsum(tokens[n] * used[n] for n in sorted(tokens)) / len(tokens) / min(tokens.values())


def _settle(x: float, raw: float, source: Source, before: tuple[float | None, int | None]) -> int:
    was, step = before
    given_anew = source == "given" and raw != was
    return nearest(x) if step is None or given_anew or abs(x - step) >= HYSTERESIS else step


def _known(endpoints: Mapping[str, ir.Endpoint], tokens: Mapping[str, float]) -> dict[str, tuple[float, Source]]:
    given = {n: e.capacity for n, e in endpoints.items() if e.capacity is not None and e.capacity > 0}
    published = {n: t for n, t in tokens.items() if n in endpoints and t > 0}
    trusted = {n: min(t, TRUST * min(published.values())) for n, t in published.items()}
    if given:
        units = [given[n] / trusted[n] for n in given if n in trusted]
        unit = median(units) if units else None
        rest = {n: t * unit for n, t in trusted.items() if n not in given} if unit else {}
        return {n: (c, "given") for n, c in given.items()} | {n: (c, "converted") for n, c in rest.items()}
    if not all(e.publishes_room for e in endpoints.values()):
        return {}
    return {n: (t, "published") for n, t in trusted.items()}


def _contradictions(endpoints: Mapping[str, ir.Endpoint], tokens: Mapping[str, float]) -> dict[str, str]:
    """A room given by the user that the published one contradicts: the most dangerous input there is."""
    both = {
        n: (e.capacity, tokens[n])
        for n, e in endpoints.items()
        if e.capacity and e.capacity > 0 and tokens.get(n, 0) > 0
    }
    if len(both) < 2:
        return {}
    unit = median(t / c for c, t in both.values())
    findings = {}
    for node, (capacity, published) in both.items():
        off = capacity * unit / published
        if not 1 / CONTRADICTION <= off <= CONTRADICTION:
            findings[node] = (
                f"capacity {capacity:g} is given where the engine's {published:,.0f} KV tokens suggest "
                f"{published / unit:.2g} beside the other nodes"
            )
    return findings
