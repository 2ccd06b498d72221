"""What came out of a simulated run: waiting times, shares, pushes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from weighbridge_simulator.service import Job

GONE = ("cancelled", "refused")


@dataclass(slots=True)
class Turns:
    """Counts changes of single weights, and those of them that take back one of the 60 s before."""

    changes: int = 0
    taken_back: int = 0
    _weights: tuple[int, ...] | None = None
    _last: dict[int, tuple[int, float]] = field(default_factory=dict)

    def note(self, now: float, weights: Sequence[int]) -> None:
        """These weights are told now; the first that are told change nothing."""
        before, self._weights = self._weights, tuple(weights)
        for i, (old, new) in enumerate(zip(before or (), weights, strict=False)):
            direction = (new > old) - (new < old)
            if direction:
                last, since = self._last.get(i, (0, -math.inf))
                self.changes += 1
                self.taken_back += last == -direction and now - since < 60
                self._last[i] = (direction, now)

    @property
    def share(self) -> float:
        """Part of the changes that were taken back."""
        return self.taken_back / max(1, self.changes)


@dataclass(slots=True)
class Outcome:
    """What came out. Times to first token by arrival; those lost count as the timeout."""

    waits: list[tuple[float, float]] = field(default_factory=list)  # (arrival, seconds to first token)
    lost: int = 0
    shares: list[float] = field(default_factory=list)
    pushes: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    turns: Turns = field(default_factory=Turns)
    picks: list[tuple[float, int]] = field(default_factory=list)  # (arrival, node)
    cached: float = 0.0  # part of the prompts' tokens that need not be read anew

    def close(self, rows: Iterable[tuple[float, int | None, Job]], nodes: int, end: float, timeout: float) -> None:
        """Count what became of each request, given as (arrival, node, job), by the end of the run."""
        counts = [0] * nodes
        asked = cached = 0
        for at, node, job in rows:
            asked, cached = asked + job.prompt, cached + job.cached
            if node is not None:
                counts[node] += 1
                self.picks.append((at, node))
            gone = job.place in GONE
            if job.first <= end:
                self.waits.append((at, job.first - at))
                self.lost += gone
            elif gone or end - at > 5:
                # A request that still waits at the end counts with what it has waited so far.
                self.waits.append((at, timeout if gone else end - at))
                self.lost += gone or end - at > 20
        self.cached = cached / max(1, asked)
        self.shares = [n / max(1, sum(counts)) for n in counts]

    def ttft(self, quantile: float = 0.99, start: float = 0.0, end: float = math.inf) -> float:
        """Seconds to first token of requests that arrived between start and end."""
        chosen = sorted(wait for at, wait in self.waits if start <= at < end)
        return chosen[min(len(chosen) - 1, int(quantile * len(chosen)))] if chosen else math.nan

    def share(self, node: int, start: float = 0.0, end: float = math.inf) -> float:
        """The node's part of the requests that arrived between start and end."""
        chosen = [picked for at, picked in self.picks if start <= at < end]
        return chosen.count(node) / len(chosen) if chosen else math.nan

    @property
    def answered(self) -> float:
        """Part of the requests that got a first token in time."""
        return 1 - self.lost / max(1, len(self.waits))
