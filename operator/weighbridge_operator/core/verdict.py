"""What one tick decided about a pool, and the facts it decided from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge_operator.core import ir
from weighbridge_operator.core.others import Suspicion
from weighbridge_operator.core.room import Source
from weighbridge_operator.core.score import Score


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node's part of a decision. Requests are averages over seconds; factors are on their grids."""

    node: str
    weight: int  # as published
    capacity: float  # room as a factor of the pool's median, with what was trimmed from it
    room_source: Source
    room_raw: float | None  # in the user's unit, or tokens
    trimmed: float  # factor that lasting evidence took from the room, 1 when none
    finding: str | None  # a capacity that the engine contradicts
    own: float  # our requests in flight
    others: float  # requests of others
    excess: float  # classic: points of score that our requests do not explain
    u: float  # part of its fair share that others leave, 1/4..1
    s: float  # speed as a factor of the pool's median, 1/8..2
    score: Score | None
    suspicion: Suspicion
    age: float | None  # seconds since its newest reading
    fresh: bool
    error: str | None  # why its numbers are missing
    source: str | None = None  # what the newest reading's numbers of the engine were read from
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Weights for Envoy, sorted by node; exactly equal unless differences are proven."""

    weights: Mapping[str, int]
    total: int  # of the weights
    changed: bool  # differs from the last verdict's
    facts: Mapping[str, NodeFacts]
    profile: ir.Profile  # by which path the weights were found
    equal: bool
    guard_until: float | None  # seconds; until then what others take is ignored, because it swung
    pool_load: float | None  # mean score by room; None when under half of the room has one
