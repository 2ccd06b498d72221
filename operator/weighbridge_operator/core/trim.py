"""Room that lasting evidence takes or gives: a wrong capacity is the one input that can hurt.

Where rooms are in force, requests lie in proportion to them, so all nodes should be equally full. One whose own numbers
stay far fuller than the pool's median, and nobody else's requests explain it, has less room than believed: it loses
half an octave at a time. One that stays far emptier and serves each request faster has more than its capacity says: it
gets as much more as it is emptier, at most twice, if it finds as many requests inside as we sent, so that none gains
who says that he idles; where it becomes the slower one, compute binds and it gives that back. A new capacity starts
anew. In a pool that counts as equal nothing is believed, hence nothing is corrected.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from statistics import median
from typing import Final

from weighbridge_operator.core.memory import NodeMemory, Step
from weighbridge_operator.core.others import multiplicity, speeds
from weighbridge_operator.core.score import Score

AVERAGE: Final = 30.0  # seconds, time constant of the score that is compared
POINTS: Final = 15.0  # above the pool's median
FACTOR: Final = math.sqrt(2)  # of the pool's median: half an octave
LASTING: Final = 60.0  # seconds of evidence for a step down
RISING: Final = 90.0  # seconds of the opposite for a move up
LOWEST, HIGHEST = -4, 2  # half octaves
FASTER: Final = 1.15  # times the median's tokens a second for each request
AGREES: Final = 0.8  # of our requests, as the pool's engines count them, that a node must find inside itself


def settle(
    nodes: Mapping[str, NodeMemory],
    scores: Mapping[str, Score | None],
    burdened: Collection[str],
    given: Collection[str],
    *,
    elapsed: float,
    now: float,
) -> dict[str, NodeMemory]:
    """The nodes with their averages and what is trimmed from their rooms, after a tick in which rooms are in force.

    `scores` are made of what engines publish; `burdened` are the nodes on which others' requests weigh, `given` those
    whose room the user gave: what an engine publishes is bounded for a reason of its own, and never raised.
    """
    averaged = {n: _average(m, scores[n], elapsed) for n, m in nodes.items()}
    known = {n: m.fill for n, m in averaged.items() if m.fill is not None}
    if len(known) < max(2, len(nodes) // 2 + 1):
        return averaged
    middle, sequences, speed = median(known.values()), multiplicity(nodes), speeds(nodes)
    result = {}
    for n, m in averaged.items():
        toward = 0.0
        if scores[n] is None:
            pass
        elif _is_full(m, middle, n in burdened) or (m.trim.value > 0 and speed[n] <= 1 / FASTER):
            toward = -1.0
        elif _names(scores[n], "kv") and speed[n] >= FASTER and _is_spare(m, middle, sequences):
            toward = 2 * math.log2(middle / max(m.fill or 0.0, 1.0))
        result[n] = _step(m, toward, HIGHEST if n in given else 0, now)
    return result


def forget(memory: NodeMemory) -> NodeMemory:
    """The node without anything trimmed."""
    return memory if (memory.trim, memory.fill) == (Step(), None) else replace(memory, trim=Step(), fill=None)


def _average(memory: NodeMemory, score: Score | None, elapsed: float) -> NodeMemory:
    if score is None:
        return memory
    part = 1 - math.exp(-elapsed / AVERAGE)
    fill = score.value if memory.fill is None else memory.fill + part * (score.value - memory.fill)
    return replace(memory, fill=fill)


def _is_full(memory: NodeMemory, middle: float, burdened: bool) -> bool:
    fill = memory.fill or 0.0
    # A slow node holds few and long requests: its score is no measure of room.
    return fill - middle >= POINTS and fill >= FACTOR * middle and not burdened and memory.s.value >= -1


def _is_spare(memory: NodeMemory, middle: float, sequences: float) -> bool:
    fill = memory.fill or 0.0
    agrees = memory.inside >= AGREES * sequences * memory.sent > 0
    return middle - fill >= POINTS and middle >= FACTOR * fill and agrees and memory.u.value == 0


def _names(score: Score | None, signal: str) -> bool:
    """Whether the signal is in it: without KV the score of a node that hides it is that of an empty one."""
    return score is not None and any(part.signal == signal for part in score.parts)


def _step(memory: NodeMemory, toward: float, highest: int, now: float) -> NodeMemory:
    value = memory.trim.value
    trim = memory.trim.settle(min(highest, max(LOWEST, value + toward)), now, LASTING, RISING)
    # A step asks for evidence of its own, so the average begins anew.
    return replace(memory, trim=trim, fill=memory.fill if trim.value == value else None)
