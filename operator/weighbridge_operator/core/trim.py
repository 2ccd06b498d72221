"""Room that lasting evidence takes: a capacity that is too large is the one input that can hurt.

Where rooms are in force, requests lie in proportion to them, so all nodes should be equally full. One whose score stays
far above the pool's median, and nobody else's requests explain it, has less room than believed: it loses half an octave
at a time. A new capacity starts anew. In a pool that counts as equal nothing is believed, hence nothing is corrected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Final

from weighbridge_operator.core.memory import NodeMemory, Step
from weighbridge_operator.core.score import Score

AVERAGE: Final = 30.0  # seconds, time constant of the score that is compared
POINTS: Final = 15.0  # above the pool's median
FACTOR: Final = math.sqrt(2)  # of the pool's median: half an octave
LASTING: Final = 60.0  # seconds of evidence for a step down
BACK: Final = 300.0  # seconds of the opposite for a step up
LOWEST: Final = -4  # half octaves


def settle(
    nodes: Mapping[str, NodeMemory], scores: Mapping[str, Score | None], in_force: bool, elapsed: float, now: float
) -> dict[str, NodeMemory]:
    """The nodes with their averages and what is trimmed from their rooms, after a tick."""
    if not in_force:
        idle = (Step(), None)
        return {n: m if (m.trim, m.fill) == idle else replace(m, trim=Step(), fill=None) for n, m in nodes.items()}
    averaged = {n: _average(m, scores[n], elapsed) for n, m in nodes.items()}
    known = {n: m.fill for n, m in averaged.items() if m.fill is not None}
    if len(known) < max(2, len(nodes) // 2 + 1):
        return averaged
    middle = median(known.values())
    return {n: _step(m, middle, scores[n] is not None, now) for n, m in averaged.items()}


def _average(memory: NodeMemory, score: Score | None, elapsed: float) -> NodeMemory:
    if score is None:
        return memory
    part = 1 - math.exp(-elapsed / AVERAGE)
    fill = score.value if memory.fill is None else memory.fill + part * (score.value - memory.fill)
    return replace(memory, fill=fill)


def _step(memory: NodeMemory, middle: float, fresh: bool, now: float) -> NodeMemory:
    fill, value = memory.fill, memory.trim.value
    full = fill is not None and fill - middle >= POINTS and fill >= FACTOR * middle
    spare = fill is not None and middle - fill >= POINTS and middle >= FACTOR * fill
    x = value
    # A slow node holds few and long requests: its score is no measure of room.
    if fresh and full and memory.u.value == 0 and memory.s.value >= -1 and value > LOWEST:
        x = value - 1
    elif fresh and spare and value < 0:
        x = value + 1
    trim = memory.trim.settle(x, now, LASTING, BACK)
    # A step asks for evidence of its own, so the average begins anew.
    if trim == memory.trim:
        return memory
    return replace(memory, trim=trim, fill=fill if trim.value == value else None)
