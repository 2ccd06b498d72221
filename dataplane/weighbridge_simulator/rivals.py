"""What others do with a score, for comparison: everything to the lowest, or weights of 100 minus score.

Both read a missing number as 0, as most do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan

from weighbridge_simulator.observation import Observation, Report

ScoreOf = Callable[[Report], float]


def llm(report: Report) -> float:
    """Queue 40 of at most 10, KV 40, running 20 of at most 64."""
    return 40 * min(1.0, report.waiting / 10) + 40 * report.kv + 20 * min(1.0, report.running / 64)


def classic(report: Report) -> float:
    """CPU 40, memory 30, queue 30 of at most 100."""
    return 40 * report.cpu + 30 * report.memory + 30 * min(1.0, report.waiting / 100)


@dataclass(frozen=True, slots=True)
class LowestScore:
    """All new requests to the node whose score was lowest at the last tick."""

    score: ScoreOf

    def tick(self, _now: float, seen: Observation) -> Sequence[int] | None:
        """1000 for the lowest, 1 for the rest."""
        scores = _scores(self.score, seen)
        best = min(seen.members, key=lambda i: (scores[i], i))
        return [1000 if i == best else 1 for i in range(len(scores))]


@dataclass(frozen=True, slots=True)
class HundredMinusScore:
    """Weights in proportion to what the score leaves of 100."""

    score: ScoreOf

    def tick(self, _now: float, seen: Observation) -> Sequence[int] | None:
        """1..100 for each node."""
        return [max(1, round(100 - x)) for x in _scores(self.score, seen)]


def _scores(score: ScoreOf, seen: Observation) -> list[float]:
    found = [score(report) if report is not None else 0.0 for report in seen.reports]
    return [0.0 if isnan(value) else value for value in found]
