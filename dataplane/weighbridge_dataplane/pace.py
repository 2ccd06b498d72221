"""When which node is asked for its page: spread evenly over the period, and slower where this process is late.

All nodes at once would hold a request for as long as it takes to begin to ask them. What harms requests is measured by
what they would feel: how late this process wakes. Each circle is a little shorter or longer than the one before: where
requests come as regularly as nodes are asked, a node would be asked always or never while it reads, and seem many times
as slow or as fast as it is. No clock and no randomness but the caller's.
"""

from __future__ import annotations

from collections.abc import Callable

PERIOD, LONGEST = 0.25, 1.0  # seconds between two samples of a node; a sample serves for 1.5
LATE, PROMPT = 0.008, 0.003  # seconds, smoothed: from the first on slower, below the second faster
SLOWER, FASTER = 1.1, 0.97
SHORTEST_TICK = 0.01  # seconds
SWING = 0.15  # of the period, by which a circle is shorter or longer
PAUSE, LONGEST_PAUSE = 0.5, 4.0  # seconds after a failure, doubling


class Pace:
    """For a circle of nodes. `random` gives numbers from 0 to below 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._swing = 1.0  # how long this circle is, in periods
        self.period = PERIOD
        self._late = 0.0
        self._place = 0.0  # in the circle, counted in nodes
        self._turned = float("-inf")

    def tick(self, nodes: int) -> float:
        """Seconds until the next node is due, but not so few that waking costs more than asking."""
        return max(SHORTEST_TICK, self.period * self._swing / max(nodes, 1))

    def turn(self, nodes: int, now: float) -> range:
        """Which nodes are due, by their place in the circle; one that was passed over by a long sleep is due once."""
        circle = self.period * self._swing
        passed, self._turned = min(now - self._turned, circle), now
        first = self._place
        self._place += nodes * passed / circle
        if first // max(nodes, 1) != self._place // max(nodes, 1):
            self._swing = 1 + SWING * (2 * self._random() - 1)
        due = range(int(first), int(self._place))
        if self._place >= 2**31:
            self._place -= 2**31 // max(nodes, 1) * max(nodes, 1)
        return due

    def feel(self, late: float) -> None:
        """Takes by how many seconds a wake came late."""
        self._late += 0.05 * (late - self._late)
        if self._late > LATE:
            self.period = min(LONGEST, self.period * SLOWER)
        elif self._late < PROMPT:
            self.period = max(PERIOD, self.period * FASTER)


class Patience:
    """When a node that failed is asked again: one that hangs holds a place among those asked at once."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = float("-inf")

    def is_due(self, now: float) -> bool:
        return now >= self._until

    def take(self, succeeded: bool, now: float) -> None:
        self._failures = 0 if succeeded else self._failures + 1
        pause = min(LONGEST_PAUSE, PAUSE * 2.0 ** min(self._failures - 1, 10)) if self._failures else 0.0
        self._until = now + pause
