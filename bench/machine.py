"""How much of what two cores carry, this machine carries now.

How many requests run side by side was found on a machine that does LOOP turns of a loop in USUAL seconds. One that is
slower, or has neighbours, would be asked for more than it can do: every request waits for processors then, through
whichever gateway, and the figures say nothing of them.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from statistics import median

LOOP, USUAL = 500_000, 0.06
ROUNDS = 9


def measure_speed() -> float:
    """1 where it is as fast, or faster; 0.5 where it takes twice as long. Takes half a second."""
    return min(1.0, USUAL / median(_time_loop() for _ in range(ROUNDS)))


def _time_loop() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(LOOP):
        total += number * number % 7
    return time.perf_counter() - began


class Busy:
    """How busy all processors are from now on, with whatever: not what this program alone takes."""

    def __init__(self) -> None:
        self._began = _read_ticks()

    def tell(self) -> float | None:
        """The part of their time until now; None where the system does not say (no /proc/stat)."""
        ended = _read_ticks()
        if self._began is None or ended is None:
            return None
        worked, whole = (after - before for before, after in zip(self._began, ended, strict=True))
        return worked / max(1, whole)


def _read_ticks() -> tuple[int, int] | None:
    """Worked, and passed, of all processors since they run. What a hypervisor took counts as worked."""
    with suppress(OSError):
        user, nice, system, idle, waiting, *others = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
        worked = sum(map(int, (user, nice, system, *others)))
        return worked, worked + int(idle) + int(waiting)
    return None
