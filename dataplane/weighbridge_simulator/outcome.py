"""What came out of a simulated run: waiting times, shares, pushes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """What came out. Times to first token by arrival; those lost count as the timeout."""

    waits: list[tuple[float, float]] = field(default_factory=list)  # (arrival, seconds to first token)
    lost: int = 0
    shares: list[float] = field(default_factory=list)
    pushes: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    changes: int = 0
    taken_back: int = 0  # changes that were reversed within 60 s
    picks: list[tuple[float, int]] = field(default_factory=list)  # (arrival, node)

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
