"""How loaded a node is, 0 (idle) to 100 (full), with the parts that made it so.

S = 100 * sum(w x) / sum(w) over the signals that are fresh, each x in 0..1. A signal that is away leaves both sums; no
fresh signal, no score, and never 0: a node that says nothing is unknown, not idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import NodeLoad

#: Seconds; the first token's target where no class of callers sets one (that of a class nobody defined).
LATENCY_TARGET: Final = 3.0


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of signal weights."""

    weights: tuple[tuple[str, float], ...]
    queue_maximum: float


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "classic": Profile((("cpu", 40.0), ("memory", 30.0), ("queue", 30.0)), 100.0),
        "llm": Profile((("kv", 40.0), ("queue", 40.0), ("running", 20.0)), 10.0),
    }
)


@dataclass(frozen=True, slots=True)
class Part:
    """One signal's part of a score: as measured, as a share of its full value 0..1, and in points of 100."""

    signal: str
    value: float
    share: float
    points: float
    source: str | None = None  # where it was read; None where it follows from our own counts
    age: float | None = None  # seconds
    full: float | None = None  # points that its full value would make


@dataclass(frozen=True, slots=True)
class Score:
    """The parts' points add up to the value; the largest part comes first."""

    value: float
    parts: tuple[Part, ...]


def score(
    load: NodeLoad, balance: ir.Balance, concurrency: int | None, now: float, inflight: int | None = None
) -> Score | None:
    """The node's score at `now` (seconds); None when no weighted signal is fresh.

    `concurrency` is how many requests it works on at once; `inflight` ours on it now, from which the queue of a server
    that publishes none follows.
    """
    measured = []
    for signal, weight in balance.weights:
        if weight <= 0:
            continue
        value = raw(signal, load, concurrency, now, inflight)
        whole = _whole(signal, balance, concurrency)
        if value is not None and whole:
            measured.append((signal, weight, value, min(1.0, max(0.0, value / whole))))
    total = sum(weight for _, weight, _, _ in measured)
    if total <= 0:
        return None
    parts = tuple(
        Part(s, v, x, 100 * w * x / total, *_date(s, load, now), full=100 * w / total) for s, w, v, x in measured
    )
    ordered = tuple(sorted(parts, key=lambda p: (-p.points, p.signal)))
    return Score(sum(p.points for p in ordered), ordered)


def raw(signal: str, load: NodeLoad, concurrency: int | None, now: float, inflight: int | None) -> float | None:
    """The signal's newest value that is not too old, in its own unit; None when it is away."""
    match signal:
        case "queue":
            waiting = _newest(load, "waiting", now)
            if waiting is None and concurrency and inflight is not None:
                return float(max(0, inflight - concurrency))
            return waiting
        case "gpuMemory":
            return _newest(load, "gpu_memory", now)
        case "cpu" | "memory" | "gpu" | "kv" | "running" | "latency":
            return _newest(load, signal, now)
        case _:
            return None


def _whole(signal: str, balance: ir.Balance, concurrency: int | None) -> float | None:
    """What counts as full; None when nothing says it."""
    match signal:
        case "queue":
            return balance.queue_maximum if balance.queue_maximum > 0 else None
        case "running":
            return float(concurrency) if concurrency else None
        case "latency":
            return LATENCY_TARGET
        case _:
            return 1.0


def _date(signal: str, load: NodeLoad, now: float) -> tuple[str | None, float | None]:
    """The source and the age of what `raw` found."""
    found = _find(load, _FIELDS.get(signal, signal), now)
    if found is None:
        return None, None
    origin = found.origins.get(_FIELDS.get(signal, signal))
    return (found.source, now - found.at) if origin is None else (origin.source, now - origin.at)


_FIELDS: Final = {"queue": "waiting", "gpuMemory": "gpu_memory"}


def _newest(load: NodeLoad, name: str, now: float) -> float | None:
    found = _find(load, name, now)
    value: float | None = None if found is None else getattr(found, name)
    return value


def _find(load: NodeLoad, name: str, now: float) -> LoadSample | None:
    for sample in reversed(load.readings):
        if now - sample.at > load.horizon:
            return None
        value: float | None = getattr(sample, name)
        origin = sample.origins.get(name)
        if value is not None and (origin is None or now <= origin.until):
            return sample
    return None
