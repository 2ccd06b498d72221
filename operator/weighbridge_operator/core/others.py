"""What each node of a pool holds beside our own requests, how fast it works, and whether its numbers can be believed.

Averages go by the time between readings, not by the number of calls, so late or irregular ticks change nothing. What
lies on all nodes in proportion to their room says nothing about differences and is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Final, Literal

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core.load import LoadView, NodeLoad
from weighbridge_operator.core.memory import NodeMemory

Suspicion = Literal["none", "reports idle", "frozen"]

TICK: Final = 2.0  # seconds between rounds, usually
FAST: Final = 6.0  # seconds, time constant of what is in flight and what others hold
SLOW: Final = 30.0  # seconds, time constant of speed
MINUTE: Final = 60.0  # seconds, time constant of how many sequences a request of ours is
HOLD: Final = 10.0  # seconds that a value is held without news
DECAY: Final = 15.0  # seconds, time constant of its decay after that
BUSY: Final = 4  # requests of ours from which silence is a contradiction
SPEED_WINDOW: Final = 6  # readings
SETTLED: Final = 20.0  # seconds of averaging before a speed counts
NOTICEABLE: Final = 2.0  # requests of others
UNUSED: Final = 0.05  # requests of ours in the whole pool: nothing to weigh, or nothing was counted
NOISE: Final = 3.0  # standard deviations, roughly, of what requests of several sequences look like
FLOOR: Final = 0.25  # a report takes at most this much of a node's fair part
SLOWEST, FASTEST = 1 / 8, 2.0


def suspect(load: NodeLoad, view: LoadView, pool: str, node: str) -> Suspicion:
    """Whether its own numbers contradict what Envoy knows to be on it."""
    recent = load.readings[-3:]
    counts = [view.inflight(pool, node, sample.at) for sample in recent]
    known = [count for count in counts if count is not None]
    if len(known) < 3 or min(known) < BUSY:
        return "none"
    inside = requests(recent[-1])
    if inside is not None and inside < min(known) / 2:
        return "reports idle"
    window = load.readings[-4:]
    return "frozen" if len(window) == 4 and _stands_still(window[0], window[-1]) else "none"


def requests(sample: LoadSample) -> float | None:
    """Requests inside the node, all callers'; None when it does not say both parts."""
    return None if sample.running is None or sample.waiting is None else sample.running + sample.waiting


def observe(
    memory: NodeMemory, view: LoadView, pool: str, node: str, *, suspicion: Suspicion, elapsed: float, now: float
) -> NodeMemory:
    """The node's averages after this tick; `elapsed` seconds since the last one."""
    load = view.load(node)
    memory = count(memory, view, pool, node)
    believed = suspicion == "none"
    fresh = load.readings if memory.seen is None else tuple(r for r in load.readings if r.at > memory.seen)
    if believed:
        for index, sample in enumerate(fresh):
            rest = len(fresh) - 1 - index
            window = load.readings[: len(load.readings) - rest][-SPEED_WINDOW:]
            memory = _take(memory, sample, window, view.inflight(pool, node, sample.at))
    elif fresh:
        memory = replace(memory, seen=fresh[-1].at)
    heard = believed and load.fresh(now)
    last = load.last if heard else None
    counted = last is not None and requests(last) is not None and view.inflight(pool, node, last.at) is not None
    fades = not counted and now - memory.others_heard > HOLD
    forgets = not heard and now - memory.heard > HOLD
    return replace(
        memory,
        heard=now if heard else memory.heard,
        others_heard=now if counted else memory.others_heard,
        others=memory.others * math.exp(-elapsed / DECAY) if fades else memory.others,
        speed=None if forgets else memory.speed,
        measured=0.0 if forgets else memory.measured,
    )


def count(memory: NodeMemory, view: LoadView, pool: str, node: str) -> NodeMemory:
    """Average our own requests in flight; held while they are not counted completely."""
    average, counted = memory.inflight, memory.counted
    for each in view.counts:
        if (counted is not None and each.at <= counted) or each.inflight is None:
            continue
        own = each.inflight.get((pool, node))
        if own is not None:
            average += blend(None if counted is None else each.at - counted, FAST) * (own - average)
            counted = each.at
    return memory if counted == memory.counted else replace(memory, inflight=average, counted=counted)


def shares(nodes: Mapping[str, NodeMemory], rooms: Mapping[str, float]) -> dict[str, float]:
    """What others leave of each node's fair part, 1/4..1."""
    if sum(m.inflight for m in _in_order(nodes)) < UNUSED:
        return dict.fromkeys(nodes, 1.0)
    held = sum(m.inflight + m.others for m in _in_order(nodes)) / math.fsum(rooms.values())
    extra = multiplicity(nodes) - 1
    foreign = {n: max(0.0, m.others - extra * m.inflight) for n, m in nodes.items()}
    common = min(foreign[n] / rooms[n] for n in nodes)
    result = {}
    for node, m in nodes.items():
        beyond = foreign[node] - rooms[node] * common
        least = NOTICEABLE + NOISE * extra * math.sqrt(m.inflight)
        left = 1 - beyond / (held * rooms[node]) if beyond > least and held > 0 else 1.0
        result[node] = max(FLOOR, left)
    return result


def multiplicity(nodes: Mapping[str, NodeMemory]) -> float:
    """How many sequences a request of ours is, as engines count them; 1 unless three of four nodes show more.

    Envoy counts requests, engines the answers asked for (n > 1, lists of prompts): the difference is no one else's.
    The lower quartile, or of fewer than five nodes the least: the least of many is what chance made smallest.
    """
    ratios = sorted(m.inside / m.sent for m in nodes.values() if m.sent >= 1)
    return max(1.0, ratios[(len(ratios) - 1) // 4]) if len(ratios) > 1 else 1.0


def speeds(nodes: Mapping[str, NodeMemory]) -> dict[str, float]:
    """Each node's speed as a factor of the pool's median, 1/8..2; 1 where it is not known."""
    known = {n: m.speed for n, m in nodes.items() if m.speed and m.measured >= SETTLED}
    if len(known) < max(2, len(nodes) // 2):
        return dict.fromkeys(nodes, 1.0)
    middle = median(known.values())
    return {n: min(FASTEST, max(SLOWEST, known[n] / middle)) if n in known else 1.0 for n in nodes}


def blend(elapsed: float | None, constant: float) -> float:
    """How much of a new value an average takes, `elapsed` seconds after the last (None: its first)."""
    return 1 - math.exp(-(TICK if elapsed is None else max(0.0, elapsed)) / constant)


def _take(memory: NodeMemory, sample: LoadSample, window: tuple[LoadSample, ...], own: int | None) -> NodeMemory:
    elapsed = None if memory.seen is None else sample.at - memory.seen
    step = TICK if elapsed is None else max(0.0, elapsed)
    inside, rate = requests(sample), _rate(window)
    others, within, sent, speed, measured = memory.others, memory.inside, memory.sent, memory.speed, memory.measured
    if inside is not None and own is not None:
        others += blend(elapsed, FAST) * (max(0.0, inside - own) - others)
        within += blend(elapsed, MINUTE) * (inside - within)
        sent += blend(elapsed, MINUTE) * (own - sent)
    if rate is not None and step:
        # A plain mean at first, so that one odd reading does not stand for half a minute.
        part = max(blend(elapsed, SLOW), step / (measured + step))
        speed = rate if speed is None else speed + part * (rate - speed)
        measured = min(SLOW, measured + step)
    return replace(memory, seen=sample.at, others=others, inside=within, sent=sent, speed=speed, measured=measured)


def _rate(window: tuple[LoadSample, ...]) -> float | None:
    """Generated tokens per second and running request over the window; None when too little ran to tell."""
    if len(window) < 4:
        return None
    first, last = window[0].generated_tokens, window[-1].generated_tokens
    running = [s.running for s in window if s.running is not None]
    elapsed = window[-1].at - window[0].at
    if first is None or last is None or len(running) < len(window) or elapsed <= 0:
        return None
    mean = sum(running) / len(running)
    return (last - first) / elapsed / mean if mean >= 1.5 and last > first else None


def _stands_still(before: LoadSample, after: LoadSample) -> bool:
    # Prompt tokens count too: an embedding model works without ever generating. Steps: an answer may be a long one.
    return (
        (before.generated_tokens is not None or before.steps is not None)
        and before.generated_tokens == after.generated_tokens
        and before.prompt_tokens == after.prompt_tokens
        and before.steps == after.steps
    )


def _in_order(nodes: Mapping[str, NodeMemory]) -> list[NodeMemory]:
    return [nodes[name] for name in sorted(nodes)]
