"""How far a long run is, on standard error: what runs, how much is done, how long the rest will take."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts finished parts of `whole`; one line that is rewritten on a terminal, now and then a line elsewhere."""

    def __init__(self, whole: int, every: float = 20.0) -> None:
        self._whole, self._done = whole, 0
        self._began = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else every

    def advance(self, what: str, parts: int = 1) -> None:
        """So many more are done; `what` is the last of them."""
        self._done += parts
        now = time.monotonic()
        if now - self._told < self._every and self._done < self._whole:
            return
        self._told = now
        left = (now - self._began) / self._done * (self._whole - self._done)
        self.say(f"{self._done} of {self._whole}, {spell_time(left)} left: {what}")

    def expect(self, more: int) -> None:
        """After the part that is under way there are so many."""
        self._whole = self._done + 1 + more

    def say(self, text: str, stays: bool = False) -> None:
        """Tell something in between; on a terminal the next takes its place, unless it `stays`."""
        end = "" if self._terminal and self._done < self._whole and not stays else "\n"
        start = "\r\x1b[K" if self._terminal else ""
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)


def spell_time(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
