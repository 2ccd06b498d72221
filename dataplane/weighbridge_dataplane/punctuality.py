"""Whether this process gets its turn in time; where it does not, Envoy is told not to ask it.

A request waits 20 ms for its answer. Envoy's own check of health finds a process that is frozen or always slow; one
that stands still for 50 ms again and again passes every other check, and half of the requests wait in vain. So it
watches itself: it wants to be woken every BEAT, and what it is late by is time in which requests waited. Pure.
"""

from __future__ import annotations

from collections import deque

BEAT = 0.02  # seconds
WAIT = 0.02  # seconds that Envoy lets a request wait (`message_timeout`)
STALL = 0.1  # seconds, the most that one stall counts for: one alone says nothing of the next
WINDOW = 2.0  # seconds that are looked at
SHARE = 0.25  # of them, in which requests would have waited in vain: above it Envoy had better not ask
REST = 5.0  # seconds without that, after which it is asked again


class Punctuality:
    """`feel` each beat; `is_kept` whenever somebody asks."""

    def __init__(self) -> None:
        self._stalls: deque[tuple[float, float]] = deque()
        self._late_until = float("-inf")

    def feel(self, late: float, now: float) -> None:
        """Takes by how many seconds a beat was late that is over now."""
        if late > WAIT:
            self._stalls.append((now, min(STALL, late - WAIT)))
        while self._stalls and now - self._stalls[0][0] > WINDOW:
            self._stalls.popleft()
        if self._stalls and sum(lost for _, lost in self._stalls) > SHARE * WINDOW:
            self._late_until = now + REST

    def is_kept(self, now: float) -> bool:
        """False while requests would wait in vain too often."""
        return now >= self._late_until
