"""The classic profile: a score of CPU, memory and queue steers weights without herding.

A score used raw sends everything to whichever node looked idle a moment ago. Here only that part of a node's score
counts which our own requests do not explain: what lies above the pool's line, points = a + b * (requests in flight per
room). The line's height is the pool's median now, its slope b comes from the last minutes of the nodes that nothing
weighs on. Where a node should carry f points, r points of others leave it u = 1 - r/f of its share, as in the law; and
beside b x points of ours, b x / (b x + r), which is where a machine weaker than declared comes to rest, because giving
it less makes its r smaller too. The lower counts. Memory counts from the node's own idle level, since most of it is
never given back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from weighbridge_operator.core.memory import Line, NodeMemory, Step
from weighbridge_operator.core.others import DECAY, FAST, HOLD, blend
from weighbridge_operator.core.score import Score

MINUTES: Final = 180.0  # seconds, time constant of the line
NOTICEABLE: Final = 9.0  # points of 100, to begin with
UNUSUAL: Final = 6.0  # times what nodes stray by chance; scores that follow the lengths of prompts stray far
MOST: Final = 18.0  # points that chance is allowed
USUAL: Final = 30.0  # seconds, time constant of where a node usually lies
SETTLED: Final = 30.0  # seconds, before which that is not known
STILL: Final = 1 / 3  # of what is noticeable, while it lasts: giving less makes what is left look smaller
CALM: Final = 6.0  # seconds; long requests make one of equal nodes look burdened for about so long
FLOOR: Final = 0.5  # a score is weaker evidence than counted requests
PRIOR_SLOPE: Final = 0.5  # of the slope through the origin, believed before the data tell
PRIOR_SPREAD: Final = 0.1  # relative spread of requests at which data and prior weigh the same
IDLE_DRIFT: Final = 3600.0  # seconds, time constant at which a node's idle level follows its memory upwards
LASTING: Final = 180.0  # seconds that others must take half an octave before it is taken for less room
RETURNING: Final = 60.0  # seconds of the opposite
LESS: Final = 0.75  # of its share, or less, is left while that lasts
SPARE: Final = 0.15  # of its own points, that it lies below the line: half of what half an octave of room would do
LOWEST: Final = -2  # half octaves
RESTED: Final = ("memory", "gpuMemory")


@dataclass(frozen=True, slots=True)
class Left:
    """What the pool's scores say of each node: the part of its share that is left, and the line they were held to."""

    nodes: Mapping[str, NodeMemory]
    shares: Mapping[str, float]
    line: Line


def settle(
    nodes: Mapping[str, NodeMemory],
    scores: Mapping[str, Score | None],
    rooms: Mapping[str, float],
    line: Line,
    *,
    elapsed: float,
    now: float,
) -> Left:
    """Take in the scores of a tick. `rooms` are as believed now, with what was trimmed."""
    heard = {n: _hear(m, scores[n], elapsed, now) for n, m in nodes.items()}
    known = sorted(n for n, m in heard.items() if m.points is not None and scores[n] is not None)
    loads = {n: m.inflight / rooms[n] for n, m in heard.items()}
    slope = line.slope(PRIOR_SLOPE, PRIOR_SPREAD)
    heights = {n: (heard[n].points or 0.0) - slope * loads[n] for n in known}
    base = _base(sorted(heights.values()))
    # As in the law: what a unit of room carries now, ours and others' together, in points.
    others = math.fsum(max(0.0, heights[n] - base) for n in known)
    fair = (slope * math.fsum(m.inflight for m in heard.values()) + others) / math.fsum(rooms.values())
    noticeable = min(MOST, max(NOTICEABLE, UNUSUAL * math.sqrt(line.strayed)))
    result, shares = {}, {}
    for n, m in heard.items():
        off = heights[n] - base if n in heights and len(known) > 1 else None
        fading = math.exp(-elapsed / DECAY) if now - m.scored_at > HOLD else 1.0
        excess = m.excess * fading if off is None else _calm(m.excess, off, elapsed)
        own = slope * loads[n]
        least = noticeable * (STILL if m.u.value < 0 else 1.0)
        if excess > least and fair > 0:
            shares[n] = max(FLOOR, min(1 - excess / fair, own / (own + excess)))
        else:
            shares[n] = 1.0
        result[n] = _lasting(replace(_lie(m, off, elapsed), excess=excess), shares[n], own, now)
    met = [
        (loads[n], heard[n].points or 0.0, heights[n] - base - one.usual if one.usual_for >= SETTLED else None)
        for n in known
        if (one := result[n]).u.value == 0 and one.trim.value == 0 and abs(one.excess) < noticeable
    ]
    return Left(result, shares, _learn(line, met, elapsed))


def _learn(line: Line, met: Sequence[tuple[float, float, float | None]], elapsed: float) -> Line:
    """The line after what nodes show on which nothing else weighs: load, points, how far off where they usually lie."""
    for load, points, strayed in met:
        part = blend(elapsed, MINUTES) / len(met)
        line = line.take(load, points, part)
        if strayed is not None and part:
            line = line.stray(strayed, part)
    return line


def _lie(memory: NodeMemory, off: float | None, elapsed: float) -> NodeMemory:
    """Where it usually lies beside the line, after it was found there."""
    if off is None:
        return memory
    usual = memory.usual + blend(elapsed, USUAL) * (off - memory.usual)
    return replace(memory, usual=usual, usual_for=memory.usual_for + elapsed)


def _base(heights: list[float]) -> float:
    """What the pool's unburdened nodes show: the lower quartile, where a single liar cannot be it; else the median."""
    if not heights:
        return 0.0
    return heights[(len(heights) - 1) // 4] if len(heights) >= 5 else median(heights)


def _calm(before: float, found: float, elapsed: float) -> float:
    """Points above the line are believed slowly; fewer at once."""
    return before + blend(elapsed, CALM) * (found - before) if found > before else found


def _hear(memory: NodeMemory, score: Score | None, elapsed: float, now: float) -> NodeMemory:
    if score is None:
        return memory
    part = blend(elapsed, FAST)
    rested, points = dict(memory.rested), 0.0
    for each in score.parts:
        if each.signal in RESTED and each.share > 0:
            low = rested.get(each.signal, each.share)
            low = each.share if each.share < low else low + (each.share - low) * blend(elapsed, IDLE_DRIFT)
            rested[each.signal] = low
            points += each.points * (1 - low / each.share)
        elif each.signal not in RESTED:
            points += each.points
    before = memory.points
    average = points if before is None else before + part * (points - before)
    return replace(memory, points=average, rested=tuple(sorted(rested.items())), scored_at=now)


def _lasting(memory: NodeMemory, share: float, own: float, now: float) -> NodeMemory:
    """What others take for minutes is a weaker machine: half an octave moves from them to its room, no push needed."""
    if memory.fill is not None:  # its engine says how full it is: better evidence, and one judge is enough
        return memory
    trim, x = memory.trim, memory.trim.value
    if memory.u.value < 0 and share <= LESS and x > LOWEST:
        x -= 1
    elif x < 0 and share == 1 and memory.excess < -own * SPARE:
        x += 1
    settled = trim.settle(x, now, LASTING, RETURNING)
    moved = settled.value < trim.value
    return replace(memory, trim=settled, u=Step(memory.u.value + 1) if moved else memory.u)
