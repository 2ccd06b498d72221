"""What was measured, folded into what may be believed: a short window of readings per node.

Absent is not zero. A number that is NaN, infinite or negative is absent; a sample that is not newer than the last says
nothing; a counter that falls is a restart, and its window begins anew. Numbers and requests in flight belong together
only when they come from the same instant, so the counts of recent rounds are kept with theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median
from typing import Any, Final

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.state import LoadRound

WINDOW: Final = 8  # readings kept per node
ROUNDS: Final = 20  # rounds whose counts are kept: 40 s at the usual cadence, enough for samples 15 s old
MAXIMUM_AGE: Final = 20.0  # seconds; a sample older than this is not used
INTERVALS: Final = 2.5  # a slower source may be this many of its intervals old
SAME_INSTANT: Final = 2.5  # seconds between a sample and the counts that are compared with it
LARGEST: Final = 1e15  # no count, share or token number is above it
AHEAD: Final = 30.0  # seconds; a sample from further ahead of its round has a wrong clock

SIGNALS: Final = ("waiting", "running", "kv", "cpu", "memory", "gpu", "gpu_memory", "latency")
COUNTERS: Final = ("generated_tokens", "prompt_tokens", "steps")
_NUMBERS: Final = (*SIGNALS, *COUNTERS, "room_tokens")


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What one node said lately."""

    readings: tuple[LoadSample, ...] = ()  # usable, oldest first, strictly newer each
    room_tokens: float | None = None  # the last that it published; held while metrics are away
    failed_at: float | None = None  # the first unusable answer since the last reading
    error: str | None = None  # why, in words

    @property
    def last(self) -> LoadSample | None:
        return self.readings[-1] if self.readings else None

    @property
    def horizon(self) -> float:
        """Seconds after which its newest reading is too old: 20, as its source says, or 2.5 of its own intervals."""
        readings = self.readings
        least = max(MAXIMUM_AGE, (readings[-1].lasts or 0.0) if readings else 0.0)
        if len(readings) < 2 or readings[-1].at - readings[0].at <= MAXIMUM_AGE / INTERVALS:
            return least
        return max(least, INTERVALS * median(b.at - a.at for a, b in pairwise(readings)))

    def age(self, now: float) -> float | None:
        """Seconds since its newest reading; None when there is none."""
        return max(0.0, now - self.readings[-1].at) if self.readings else None

    def fresh(self, now: float) -> bool:
        """Whether the newest reading may be used: young enough, and nothing unusable came after it."""
        age = self.age(now)
        return age is not None and age <= self.horizon and self.failed_at is None


@dataclass(frozen=True, slots=True)
class Count:
    """Requests in flight per (pool, node) over all Envoys at one instant; None when one of them could not be read."""

    at: float
    inflight: Mapping[tuple[str, str], int] | None


@dataclass(frozen=True, slots=True)
class LoadView:
    """What was measured, with its instants. Nodes are "namespace/name"."""

    nodes: Mapping[str, NodeLoad] = field(default_factory=dict)
    counts: tuple[Count, ...] = ()  # oldest first
    at: float | None = None  # seconds, the last round

    def load(self, node: str) -> NodeLoad:
        """The node's load; an empty one for a node that never answered."""
        return self.nodes.get(node, _NOTHING)

    def inflight(self, pool: str, node: str, at: float) -> int | None:
        """Requests of ours on the node at that instant; None when they were not counted completely then."""
        best = None
        for count in reversed(self.counts):
            if best is not None and abs(count.at - at) >= abs(best.at - at):
                break
            best = count
        if best is None or best.inflight is None or abs(best.at - at) > SAME_INSTANT:
            return None
        return best.inflight.get((pool, node))


_NOTHING: Final = NodeLoad()


def fold(view: LoadView, load: LoadRound) -> LoadView:
    """The view after one more round."""
    nodes = dict(view.nodes)
    for node in sorted(load.samples):
        nodes[node] = _fold_sample(view.load(node), _clean(load.samples[node]), load.at)
    counts = view.counts
    if math.isfinite(load.at) and (not counts or load.at > counts[-1].at):
        counts = (*counts, Count(load.at, load.inflight))[-ROUNDS:]
    return LoadView(nodes=dict(sorted(nodes.items())), counts=counts, at=load.at)


def keep(view: LoadView, nodes: Iterable[str]) -> LoadView:
    """The view without nodes that are gone."""
    wanted = frozenset(nodes)
    return replace(view, nodes={n: load for n, load in view.nodes.items() if n in wanted})


def _fold_sample(load: NodeLoad, sample: LoadSample, asked: float) -> NodeLoad:
    if not math.isfinite(sample.at) or sample.at > asked + AHEAD:
        return _failed(load, asked, "the sample's clock is wrong")
    last = load.last
    if last is not None and sample.at <= last.at:
        return load
    if all(getattr(sample, name) is None for name in _NUMBERS):
        return _failed(load, sample.at, sample.error or "no usable number")
    # Counters of two sources are not one window: where they overlap, one may seem to fall, and where not, to leap.
    follows = last is not None and last.source == sample.source and not _restarted(last, sample)
    readings = load.readings if follows else ()
    return NodeLoad(
        readings=(*readings, sample)[-WINDOW:],
        room_tokens=sample.room_tokens or load.room_tokens,
        error=sample.error,
    )


def _failed(load: NodeLoad, at: float, why: str) -> NodeLoad:
    return replace(load, failed_at=at if load.failed_at is None else load.failed_at, error=why)


def _restarted(last: LoadSample, sample: LoadSample) -> bool:
    pairs = ((getattr(last, name), getattr(sample, name)) for name in COUNTERS)
    return any(before is not None and after is not None and after < before for before, after in pairs)


def _clean(sample: LoadSample) -> LoadSample:
    bad: dict[str, Any] = {
        name: None for name in _NUMBERS if (value := getattr(sample, name)) is not None and not 0 <= value <= LARGEST
    }
    if sample.room_tokens is not None and sample.room_tokens < 1:
        bad["room_tokens"] = None
    return replace(sample, **bad) if bad else sample
