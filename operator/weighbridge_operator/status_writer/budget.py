"""So many a second, and a few more at once: a bucket of tokens. Pure: the moment is an argument."""

from __future__ import annotations


class Budget:
    """`rate` a second on average, `burst` at once after a rest."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, float("-inf")

    def spend(self, now: float) -> bool:
        """Takes one if there is one."""
        if self.wait(now) > 0:
            return False
        self._left -= 1
        return True

    def wait(self, now: float) -> float:
        """Seconds until there is one."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1 - self._left) / self._rate)
