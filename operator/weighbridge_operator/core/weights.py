"""The law: measured load in, Envoy's endpoint weights out, once per pool and tick.

Weights are exactly equal unless room or others' load provably differ: Envoy then compares counts of some random
nodes, which is better than any weight of ours. When they differ, Envoy schedules by weight/(active + 1), whose balance
point holds requests in flight in proportion to sqrt(weight * time); so that they lie in proportion to room c times what
others leave u, whatever the speed s, the weight is (c u)^2 s. Every input moves on a grid with hysteresis, a change
waits for its gap, and a guard ends any swinging.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from weighbridge_operator.core import classic, ir, others, room, trim
from weighbridge_operator.core.explain import explain
from weighbridge_operator.core.load import MAXIMUM_AGE, LoadView
from weighbridge_operator.core.memory import RECALLED, Line, NodeMemory, PoolMemory, Step
from weighbridge_operator.core.others import Suspicion
from weighbridge_operator.core.room import Room
from weighbridge_operator.core.score import PROFILES, Score, score
from weighbridge_operator.core.verdict import NodeFacts, Verdict

NEUTRAL: Final = 1024
BAND: Final = math.log2(room.BAND)
SPAN: Final = 3.0  # octaves of wanted share: retries must still find the others
RATIO: Final = 64  # the same as a ratio of weights
GAP: Final = 6.0  # seconds between pushes of a pool
DOWN, UP, TRIMS = 1.5, 29.5, 7.5  # seconds a full step beyond: 2, 16 and 5 ticks of 2 s, late by up to a quarter
YOUNG: Final = 60.0  # seconds; a change that is taken back while younger counts as swinging
SWINGS, SWING_WINDOW, GUARD = 3, 120.0, 300.0


@dataclass(frozen=True, slots=True)
class _Tick:
    """What one tick knows of a pool before it decides."""

    pool: ir.Pool
    endpoints: Mapping[str, ir.Endpoint]
    view: LoadView
    now: float
    profile: ir.Profile
    scores: Mapping[str, Score | None]
    counts: Mapping[str, int | None]  # our requests in flight, from the instant of the node's newest numbers
    suspicions: Mapping[str, Suspicion]


def weigh(pool: ir.Pool, memory: PoolMemory | None, view: LoadView, now: float) -> tuple[PoolMemory, Verdict]:
    """The pool's memory and verdict after the tick at `now` (seconds, never going back)."""
    endpoints = {e.node: e for e in pool.endpoints}
    profile: ir.Profile = "classic" if pool.balance.custom else pool.balance.profile
    before = _take(memory, profile, now)
    suspicions = {n: others.suspect(view.load(n), view, pool.name, n) for n in endpoints}
    counts = {n: _count(view, pool.name, n, now) for n in endpoints}
    scores = {
        n: None if suspicions[n] != "none" else score(view.load(n), pool.balance, e.concurrency, now, counts[n])
        for n, e in endpoints.items()
    }
    tick = _Tick(pool, endpoints, view, now, profile, scores, counts, suspicions)
    nodes = _observe(tick, before)
    shortage, short = _shortage(tick, nodes, before)
    rooms = room.rooms(endpoints, _tokens(nodes), {n: (m.raw, m.room) for n, m in nodes.items()}, short)
    nodes = {n: _place(m, rooms[n]) for n, m in nodes.items()}
    nodes, line = _settle(tick, nodes, rooms, before)
    ordered = dict(sorted(nodes.items()))
    moved = replace(before, at=max(now, before.at), nodes=ordered, line=line, shortage=shortage, short=short)
    after = _publish(moved, before, _weights(nodes, rooms), now)
    return after, _verdict(tick, before, after, rooms)


def _take(memory: PoolMemory | None, profile: ir.Profile, now: float) -> PoolMemory:
    """The memory, if it is of this profile, or was put together from weights alone; else a new one."""
    if memory is None or memory.profile not in (profile, RECALLED):
        return PoolMemory(now, profile=profile)
    return memory if memory.profile == profile else replace(memory, profile=profile)


def _count(view: LoadView, pool: str, node: str, now: float) -> int | None:
    load = view.load(node)
    at = load.last.at if load.last is not None else view.at
    oldest = load.horizon if load.last is not None else MAXIMUM_AGE
    return None if at is None or now - at > oldest else view.inflight(pool, node, at)


def _observe(tick: _Tick, before: PoolMemory) -> dict[str, NodeMemory]:
    elapsed = max(0.0, tick.now - before.at)
    nodes = {}
    for n in tick.endpoints:
        old = before.nodes.get(n, NodeMemory(heard=tick.now, others_heard=tick.now))
        tokens = tick.view.load(n).room_tokens or old.tokens
        known = old if tokens == old.tokens else replace(old, tokens=tokens)
        nodes[n] = others.observe(
            known, tick.view, tick.pool.name, n, suspicion=tick.suspicions[n], elapsed=elapsed, now=tick.now
        )
    return nodes


def _shortage(tick: _Tick, nodes: Mapping[str, NodeMemory], before: PoolMemory) -> tuple[float | None, bool]:
    """KV in use, averaged over half a minute, and whether it is short; held while it is not known."""
    used = {}
    for n in nodes:
        last = tick.view.load(n).last
        if (
            last is not None
            and last.kv is not None
            and tick.suspicions[n] == "none"
            and tick.view.load(n).fresh(tick.now)
        ):
            used[n] = min(1.0, last.kv)
    now = room.shortage(_tokens(nodes), used)
    if now is None:
        return before.shortage, before.short
    old = before.shortage
    average = now if old is None else old + others.blend(tick.now - before.at, others.SLOW) * (now - old)
    return average, average >= (room.AMPLE if before.short else room.SHORT)


def _place(memory: NodeMemory, place: Room) -> NodeMemory:
    """The node with its room; what was trimmed from another raw room is forgotten."""
    if (memory.raw, memory.room) == (place.raw, place.step):
        return memory
    kept = memory.trim if memory.raw in (None, place.raw) else Step()
    return replace(memory, raw=place.raw, room=place.step, trim=kept)


def _settle(
    tick: _Tick, nodes: Mapping[str, NodeMemory], rooms: Mapping[str, Room], before: PoolMemory
) -> tuple[dict[str, NodeMemory], Line]:
    """Move every node's factors on their grids."""
    if not nodes:
        return {}, before.line
    now, elapsed, line = tick.now, max(0.0, tick.now - before.at), before.line
    nodes = _trim(tick, nodes, rooms, elapsed)
    values = _trimmed(nodes, rooms)
    if tick.profile == "llm":
        left: Mapping[str, float] = others.shares(nodes, values)
    else:
        # A score means something only beside our own requests: uncounted, what was known is held and fades.
        counted = {n: s if tick.counts[n] is not None else None for n, s in tick.scores.items()}
        said = classic.settle(nodes, counted, values, line, elapsed=elapsed, now=now)
        nodes, left, line = said.nodes, said.shares, said.line
    speed = others.speeds(nodes)
    guarded = before.guard_until is not None and now < before.guard_until
    moved = {n: _move(m, Step() if guarded else None, left[n], speed[n], now) for n, m in nodes.items()}
    return moved, line


def _trim(
    tick: _Tick, nodes: Mapping[str, NodeMemory], rooms: Mapping[str, Room], elapsed: float
) -> Mapping[str, NodeMemory]:
    """Correct rooms that are in force by what engines publish, in either profile."""
    llm = tick.profile == "llm"
    if len({r.value for r in rooms.values()}) < 2:
        return {n: trim.forget(m) if llm or m.fill is not None else m for n, m in nodes.items()}
    given = {n for n, r in rooms.items() if r.source == "given"}
    if llm:
        burdened = {n for n, m in nodes.items() if m.u.value < 0}
        scores = tick.scores
    else:
        # The score of this profile moves u, so that u cannot say whether the requests inside are all ours.
        burdened = {n for n, left in others.shares(nodes, _trimmed(nodes, rooms)).items() if left < 1}
        scores = {n: _published(tick, n) for n in nodes}
    return trim.settle(nodes, scores, burdened, given, elapsed=elapsed, now=tick.now)


def _published(tick: _Tick, node: str) -> Score | None:
    """How full the engine itself says that it is; None where it publishes no requests."""
    load = tick.view.load(node)
    if tick.suspicions[node] != "none" or load.last is None or others.requests(load.last) is None:
        return None
    profile = PROFILES["llm"]
    balance = ir.Balance("llm", profile.weights, profile.queue_maximum)
    return score(load, balance, tick.endpoints[node].concurrency, tick.now)


def _trimmed(nodes: Mapping[str, NodeMemory], rooms: Mapping[str, Room]) -> dict[str, float]:
    return {n: rooms[n].value * 2 ** (m.trim.value / 2) for n, m in nodes.items()}


def _move(memory: NodeMemory, forced: Step | None, left: float, speed: float, now: float) -> NodeMemory:
    u = forced or memory.u.settle(2 * math.log2(left), now, DOWN, UP)
    s = memory.s.settle(2 * math.log2(speed), now, TRIMS, TRIMS)
    return memory if (u, s) == (memory.u, memory.s) else replace(memory, u=u, s=s)


def _weights(nodes: Mapping[str, NodeMemory], rooms: Mapping[str, Room]) -> dict[str, int]:
    """(c u)^2 s in integers of a ratio up to 64; all equal when c u differs by less than the band."""
    wanted = {n: math.log2(rooms[n].value) + (m.u.value + m.trim.value) / 2 for n, m in nodes.items()}
    if not wanted or max(wanted.values()) - min(wanted.values()) < BAND:
        return dict.fromkeys(sorted(nodes), NEUTRAL)
    x = {n: wanted[n] + nodes[n].s.value / 4 for n in nodes}
    top = max(x.values())
    # A common factor means nothing to Envoy; it is taken out where it would make large numbers.
    shift = max(0.0, top - SPAN)
    weights = {n: max(1, round(NEUTRAL * 4 ** (max(x[n], top - SPAN) - shift))) for n in sorted(nodes)}
    most = RATIO * min(weights.values())
    return {n: min(w, most) for n, w in weights.items()}


def _publish(memory: PoolMemory, before: PoolMemory, wanted: Mapping[str, int], now: float) -> PoolMemory:
    """The memory with the wanted weights as the published ones, unless the last change is too young."""
    current = {n: m.weight for n, m in memory.nodes.items()}
    same_nodes = memory.nodes.keys() == before.nodes.keys() and None not in current.values()
    waiting = before.pushed_at is not None and now - before.pushed_at < GAP
    if same_nodes and (wanted == current or waiting):
        return memory
    taken_back, nodes = False, {}
    for n, m in memory.nodes.items():
        direction = 0 if m.weight is None else (wanted[n] > m.weight) - (wanted[n] < m.weight)
        taken_back = taken_back or (direction != 0 and m.turned == -direction and now - m.turned_at < YOUNG)
        since = now if direction else m.turned_at
        nodes[n] = replace(m, weight=wanted[n], turned=direction or m.turned, turned_at=since)
    recent = tuple(t for t in before.taken_back if now - t < SWING_WINDOW) + ((now,) if taken_back else ())
    swings = len(recent) >= SWINGS
    return replace(
        memory,
        nodes=nodes,
        pushed_at=now,
        taken_back=() if swings else recent,
        guard_until=now + GUARD if swings else before.guard_until,
    )


def _verdict(tick: _Tick, before: PoolMemory, after: PoolMemory, rooms: Mapping[str, Room]) -> Verdict:
    weights = {n: m.weight or NEUTRAL for n, m in after.nodes.items()}
    published = {n: m.weight for n, m in before.nodes.items()}
    guarded = after.guard_until is not None and tick.now < after.guard_until
    facts = {n: _facts(tick, n, after.nodes[n], rooms[n]) for n in after.nodes}
    verdict = Verdict(
        weights=weights,
        total=sum(weights.values()),
        changed=weights != published,
        facts=facts,
        profile=tick.profile,
        equal=len(set(weights.values())) < 2,
        guard_until=after.guard_until if guarded else None,
        pool_load=_pool_load(tick.scores, {n: f.capacity for n, f in facts.items()}),
    )
    told = {n: replace(f, reason=explain(verdict, n, tick.now)) for n, f in facts.items()}
    return replace(verdict, facts=told)


def _facts(tick: _Tick, node: str, memory: NodeMemory, place: Room) -> NodeFacts:
    load, trimmed = tick.view.load(node), 2 ** (memory.trim.value / 2)
    return NodeFacts(
        node=node,
        weight=memory.weight or NEUTRAL,
        capacity=place.value * trimmed,
        room_source=place.source,
        room_raw=place.raw,
        trimmed=trimmed,
        finding=place.finding,
        own=memory.inflight,
        others=memory.others,
        excess=memory.excess,
        u=2 ** (memory.u.value / 2),
        s=2 ** (memory.s.value / 2),
        score=tick.scores[node],
        suspicion=tick.suspicions[node],
        age=load.age(tick.now),
        fresh=load.fresh(tick.now) and tick.suspicions[node] == "none",
        error=load.error,
        source=load.last.source if load.last else None,
    )


def _tokens(nodes: Mapping[str, NodeMemory]) -> dict[str, float]:
    return {n: m.tokens for n, m in nodes.items() if m.tokens}


def _pool_load(scores: Mapping[str, Score | None], capacities: Mapping[str, float]) -> float | None:
    known = [(s.value, capacities[n]) for n, s in scores.items() if s is not None]
    covered = sum(c for _, c in known)
    if not known or covered < sum(capacities.values()) / 2:
        return None
    return sum(value * c for value, c in known) / covered
