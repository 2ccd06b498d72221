"""What a load generator saw, in columns. Times are in seconds from the start of the run; what never came is NaN."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from math import isnan, nan
from typing import Literal

Outcome = Literal["open", "ok", "refused", "lost", "cut", "late", "shed"]
#: open: not answered yet; refused: a status from 400; lost: no answer at all; cut: an answer without its end;
#: late: given up after the time-out; shed: not sent, too many in flight.
OUTCOMES: tuple[Outcome, ...] = ("open", "ok", "refused", "lost", "cut", "late", "shed")


class Records:
    """One row for each request. `first` is when the first data came, not the head of the answer."""

    __slots__ = ("_names", "_node", "_outcome", "counts", "end", "first", "start", "status")

    def __init__(self) -> None:
        self.start = array("d")
        self.first = array("d")
        self.end = array("d")
        self.status = array("H")
        self._outcome = array("B")
        self._node = array("H")
        self._names: dict[str, int] = {"": 0}
        self.counts: Counter[Outcome] = Counter()

    def __len__(self) -> int:
        return len(self.start)

    def open(self, start: float) -> int:
        """Start a row; its number."""
        self.start.append(start)
        self.first.append(nan)
        self.end.append(nan)
        self.status.append(0)
        self._outcome.append(0)
        self._node.append(0)
        self.counts["open"] += 1
        return len(self.start) - 1

    def close(self, row: int, end: float, outcome: Outcome, status: int, node: str) -> None:
        """Complete a row."""
        self.end[row] = end
        self.status[row] = status
        self._outcome[row] = OUTCOMES.index(outcome)
        self._node[row] = self._names.setdefault(node, len(self._names))
        self.counts["open"] -= 1
        self.counts[outcome] += 1

    def outcome(self, row: int) -> Outcome:
        """How a request ended."""
        return OUTCOMES[self._outcome[row]]

    def node(self, row: int) -> str:
        """Which node answered, or an empty text."""
        names = tuple(self._names)
        return names[self._node[row]]

    def rows(self, since: float = 0.0, until: float = float("inf")) -> Iterator[int]:
        """The rows that started in a span of time."""
        return (row for row, start in enumerate(self.start) if since <= start < until)

    def times_to_first(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """Times to the first data, in order; requests without any are not among them."""
        waits = (self.first[row] - self.start[row] for row in self.rows(since, until))
        return sorted(wait for wait in waits if not isnan(wait))

    def durations(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """Times of whole answers that were right, in order."""
        return sorted(
            self.end[row] - self.start[row] for row in self.rows(since, until) if OUTCOMES[self._outcome[row]] == "ok"
        )

    def shares(self, since: float = 0.0, until: float = float("inf")) -> dict[str, float]:
        """Each node's share of the right answers."""
        names = tuple(self._names)
        counts = Counter(
            names[self._node[row]] for row in self.rows(since, until) if OUTCOMES[self._outcome[row]] == "ok"
        )
        total = counts.total()
        return {name: count / total for name, count in sorted(counts.items())}

    def outcomes(self, since: float = 0.0, until: float = float("inf")) -> Counter[Outcome]:
        """How the requests of a span ended."""
        return Counter(OUTCOMES[self._outcome[row]] for row in self.rows(since, until))


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which a share (0..1) of the values lies, by nearest rank; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return nan
    return ordered[min(len(ordered) - 1, max(0, int(share * len(ordered))))]
