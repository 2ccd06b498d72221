"""What a simulated node uses of its machine, in virtual time and in real time alike. Pure.

The processor serves the engine's steps, and more with each sequence in them, whatever their length; memory follows KV.
"""

from __future__ import annotations

IDLE_MEMORY = 0.3


def use_cpu(busy: float, filled: float) -> float:
    """0 to 1; `busy`: part of the time in which the engine worked, `filled`: running sequences of those it can take."""
    return min(1.0, 0.05 + min(1.0, busy) * (0.15 + 0.6 * filled))


def use_memory(kv: float, idle: float = IDLE_MEMORY) -> float:
    """0 to 1."""
    return min(1.0, idle + 0.4 * min(1.0, kv))
