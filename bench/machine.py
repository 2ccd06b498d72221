"""How much of what two cores carry, this machine carries now.

How many requests run side by side was found on a machine that does LOOP turns of a loop in USUAL seconds. One that is
slower, or has neighbours, would be asked for more than it can do: every request waits for processors then, through
whichever gateway, and the figures say nothing of them.
"""

from __future__ import annotations

import time
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
