"""The law tick by tick: rooms, membership, contradictions, words; and what holds for any input whatever."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, fold, keep
from weighbridge_operator.core.memory import PoolMemory, dump, restore
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound, LoadSample

Maker = Callable[..., ir.Endpoint]
Pools = Callable[..., ir.Pool]

A, B, C = "default/a", "default/b", "default/c"


class Steady:
    """Ticks of 2 s in which every node tells the same each time."""

    def __init__(self, pool: ir.Pool) -> None:
        self.pool = pool
        self.view = LoadView()
        self.memory: PoolMemory | None = None
        self.now = 0.0
        self.changes = 0

    def run(
        self,
        ticks: int,
        numbers: Mapping[str, Mapping[str, float]] | None = None,
        inflight: Mapping[str, int] | None = None,
        every: float = 2.0,
    ) -> Verdict:
        for _ in range(ticks):
            self.now += every
            samples = {n: self._sample(n, dict(v)) for n, v in (numbers or {}).items()}
            counts = None if inflight is None else {("pool", n): v for n, v in inflight.items()}
            nodes = [e.node for e in self.pool.endpoints]
            self.view = keep(fold(self.view, LoadRound(self.now, samples, counts)), nodes)
            self.memory, verdict = weigh(self.pool, self.memory, self.view, self.now)
            self.changes += verdict.changed
        return verdict

    def _sample(self, node: str, numbers: dict[str, float]) -> LoadSample:
        rate = numbers.pop("rate", 10.0)
        tokens = 1000 + rate * self.now * max(1.0, numbers.get("running", 0.0))
        return LoadSample(node, self.now, generated_tokens=tokens, **numbers)


BUSY = {"running": 10.0, "waiting": 0.0, "kv": 0.4}
FULL = {**BUSY, "kv": 0.8}


def same(nodes: Sequence[str], **numbers: float) -> dict[str, dict[str, float]]:
    return {n: {**BUSY, **numbers} for n in nodes}


def test_a_pool_of_one_and_an_empty_one(make_endpoint: Maker, make_pool: Pools) -> None:
    assert Steady(make_pool([make_endpoint(A)])).run(1, same([A])).weights == {A: 1024}
    assert Steady(make_pool([])).run(1).weights == {}


def test_nothing_known_is_exactly_equal(make_endpoint: Maker, make_pool: Pools) -> None:
    verdict = Steady(make_pool([make_endpoint(n) for n in (A, B, C)])).run(5)
    assert set(verdict.weights.values()) == {1024}
    assert verdict.pool_load is None


def test_weights_are_squares_of_given_room(make_endpoint: Maker, make_pool: Pools) -> None:
    pool = make_pool([make_endpoint(n, capacity=c) for n, c in ((A, 4), (B, 2), (C, 1))])
    law = Steady(pool)
    verdict = law.run(30, same([A, B, C]), {A: 10, B: 10, C: 10})
    assert verdict.weights == {A: 4096, B: 1024, C: 256}
    assert law.changes == 1
    assert verdict.facts[A].room_source == "given"


def test_capacity_means_the_same_in_any_unit(make_endpoint: Maker, make_pool: Pools) -> None:
    found = [
        Steady(make_pool([make_endpoint(n, capacity=c * unit) for n, c in ((A, 4), (B, 2), (C, 1))])).run(3).weights
        for unit in (1, 80, 0.01)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("larger", "equal"), [(1.39, True), (1.5, False)])
def test_a_spread_below_the_band_is_equal(larger: float, equal: bool, make_endpoint: Maker, make_pool: Pools) -> None:
    pool = make_pool([make_endpoint(A, capacity=larger), make_endpoint(B, capacity=1.0)])
    assert (len(set(Steady(pool).run(3).weights.values())) == 1) is equal


def test_published_room_is_trusted_up_to_two_to_one(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(A), make_endpoint(B)]))
    numbers = {A: {**FULL, "room_tokens": 320_000.0}, B: {**FULL, "room_tokens": 40_000.0}}
    verdict = law.run(5, numbers, {A: 10, B: 10})
    assert verdict.weights[A] == 4 * verdict.weights[B]
    assert verdict.facts[A].room_source == "published"


def test_published_room_counts_only_while_kv_is_short(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(A), make_endpoint(B)]))

    def numbers(kv: float) -> dict[str, dict[str, float]]:
        return {n: {**BUSY, "kv": kv, "room_tokens": tokens} for n, tokens in ((A, 80_000.0), (B, 40_000.0))}

    verdict = law.run(60, numbers(0.3), {A: 10, B: 10})
    assert verdict.equal
    assert "KV is not short" in verdict.facts[A].reason
    assert not law.run(60, numbers(0.7), {A: 10, B: 10}).equal
    assert not law.run(60, numbers(0.5), {A: 10, B: 10}).equal
    assert law.run(60, numbers(0.3), {A: 10, B: 10}).equal


def test_an_engine_that_cannot_publish_room_makes_all_equal(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(A), make_endpoint(B), make_endpoint(C, engine="openai")]))
    numbers = {A: {**FULL, "room_tokens": 80_000.0}, B: {**FULL, "room_tokens": 40_000.0}}
    assert set(law.run(5, numbers, {A: 10, B: 10, C: 1}).weights.values()) == {1024}


def test_a_node_of_unknown_room_takes_the_smallest_and_leaves_the_pool_uneven(
    make_endpoint: Maker, make_pool: Pools
) -> None:
    pool = make_pool([make_endpoint(A, capacity=4), make_endpoint(B, capacity=1), make_endpoint(C)])
    verdict = Steady(pool).run(3, same([A, B]))
    assert verdict.weights[C] == verdict.weights[B] < verdict.weights[A]
    assert verdict.facts[C].room_source == "smallest known"
    assert "not known yet" in verdict.facts[C].reason


def test_a_joining_node_gets_a_weight_at_once_and_leaves_the_others_alone(
    make_endpoint: Maker, make_pool: Pools
) -> None:
    law = Steady(make_pool([make_endpoint(A, capacity=4), make_endpoint(B, capacity=2)]))
    before = law.run(3, same([A, B]), {A: 10, B: 10}).weights
    law.pool = make_pool([make_endpoint(A, capacity=4), make_endpoint(B, capacity=2), make_endpoint(C, capacity=2)])
    after = law.run(1, same([A, B]), {A: 10, B: 10})
    assert set(after.weights) == {A, B, C}
    assert after.weights[A] / after.weights[B] == before[A] / before[B]
    assert after.weights[C] == after.weights[B]
    law.pool = make_pool([make_endpoint(A, capacity=4)])
    assert law.run(1, same([A]), {A: 10}).weights == {A: 1024}


def test_room_is_held_while_metrics_are_away_for_ever(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(A), make_endpoint(B)]))
    numbers = {A: {**FULL, "room_tokens": 80_000.0}, B: {**FULL, "room_tokens": 40_000.0}}
    before = law.run(5, numbers, {A: 10, B: 10}).weights
    assert before[A] > before[B]
    assert law.run(300).weights == before


def test_a_contradicted_capacity_is_told_with_both_numbers(make_endpoint: Maker, make_pool: Pools) -> None:
    pool = make_pool([make_endpoint(A, capacity=4), make_endpoint(B, capacity=2), make_endpoint(C, capacity=2)])
    verdict = Steady(pool).run(1, same([A, B, C], room_tokens=40_000.0), {A: 1, B: 1, C: 1})
    finding = verdict.facts[A].finding
    assert finding is not None
    assert "capacity 4" in finding
    assert "40,000" in finding
    assert verdict.facts[B].finding is None


def others_on(node: str) -> dict[str, dict[str, float]]:
    return {n: {**BUSY, "running": 25.0 if n == node else 10.0} for n in (A, B, C)}


TENS = {A: 10, B: 10, C: 10}


def test_others_load_lowers_its_node_soon_and_only_it(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    law.run(20, same([A, B, C]), TENS)
    verdict = law.run(8, others_on(A), TENS)
    assert verdict.weights[A] < 1024
    assert verdict.weights[B] == verdict.weights[C] == 1024
    assert "others hold" in verdict.facts[A].reason


def test_others_load_that_ends_gives_the_share_back_within_a_minute(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    law.run(30, others_on(A), TENS)
    assert set(law.run(30, same([A, B, C]), TENS).weights.values()) == {1024}


def test_a_report_takes_at_most_fifteen_sixteenths(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    lie = {**same([B, C]), A: {**BUSY, "running": 1e6}}
    assert law.run(60, lie, TENS).weights == {A: 64, B: 1024, C: 1024}


def test_what_lies_on_all_nodes_alike_changes_nothing(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    assert set(law.run(60, same([A, B, C], running=40.0), TENS).weights.values()) == {1024}


def test_metrics_that_go_away_decay_to_neutral(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    assert law.run(20, others_on(A), TENS).weights[A] < 1024
    assert set(law.run(60, {}, TENS).weights.values()) == {1024}


def test_an_incomplete_count_is_held_and_decays(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    lowered = law.run(20, others_on(A), TENS).weights[A]
    assert lowered < 1024
    assert law.run(4, others_on(A), None).weights[A] == lowered
    assert set(law.run(60, others_on(A), None).weights.values()) == {1024}


def test_a_node_that_reports_idle_under_our_requests_is_not_believed(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    lie = {**same([B, C]), A: {"running": 0.0, "waiting": 0.0, "kv": 0.0}}
    verdict = law.run(10, lie, TENS)
    assert verdict.facts[A].suspicion == "reports idle"
    assert not verdict.facts[A].fresh
    assert verdict.facts[A].score is None
    assert "reports idle" in verdict.facts[A].reason
    assert verdict.facts[B].suspicion == "none"


def test_a_counter_that_stands_still_under_our_requests_is_not_believed(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B)]))
    verdict = law.run(10, {A: {**BUSY, "rate": 0.0}, B: dict(BUSY)}, {A: 10, B: 10})
    assert verdict.facts[A].suspicion == "frozen"
    assert verdict.facts[B].suspicion == "none"


def test_an_embedding_server_generates_nothing_and_is_believed(make_endpoint: Maker, make_pool: Pools) -> None:
    pool, view, memory = make_pool([make_endpoint(A)]), LoadView(), None
    for tick in range(10):
        sample = LoadSample(A, tick * 2.0, running=9.0, waiting=0.0, generated_tokens=0.0, prompt_tokens=tick * 900.0)
        view = fold(view, LoadRound(tick * 2.0, {A: sample}, {("pool", A): 9}))
        memory, verdict = weigh(pool, memory, view, tick * 2.0)
    assert verdict.facts[A].suspicion == "none"


def test_speed_alone_never_makes_weights_unequal(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    assert set(law.run(60, {**same([B, C]), A: {**BUSY, "rate": 2.0}}, TENS).weights.values()) == {1024}


def test_speed_trims_a_slow_node_where_rooms_differ(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(A, capacity=2), make_endpoint(B, capacity=2), make_endpoint(C, capacity=1)]))
    weights = law.run(60, {**same([B, C]), A: {**BUSY, "rate": 2.5}}, TENS).weights
    assert weights[A] == pytest.approx(weights[B] / 4, rel=0.01)


def test_irregular_ticks_end_where_regular_ones_do(make_endpoint: Maker, make_pool: Pools) -> None:
    pool = make_pool([make_endpoint(n) for n in (A, B, C)])
    ends = [Steady(pool).run(int(120 / every), others_on(A), TENS, every).weights for every in (0.5, 2.0, 5.0)]
    assert ends[0] == ends[1] == ends[2]


def test_one_late_tick_is_not_evidence_of_minutes(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    lowered = law.run(30, others_on(A), TENS).weights[A]
    assert law.run(1, same([A, B, C]), TENS, every=19.0).weights[A] == lowered


def test_forced_swinging_trips_the_guard_which_ends_by_itself(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n, capacity=c) for n, c in ((A, 2.0), (B, 1.0), (C, 1.0))]))
    law.run(5, same([A, B, C]), TENS)
    changes = 0
    for flip in range(100):
        law.pool = make_pool(
            [make_endpoint(A, capacity=2.0 if flip % 2 else 4.0)] + [make_endpoint(n, 1.0) for n in (B, C)]
        )
        verdict = law.run(4, others_on(B), TENS)
        changes += verdict.changed
        if verdict.guard_until is not None:
            break
    assert verdict.guard_until is not None
    assert verdict.guard_until - law.now <= 300
    law.pool = make_pool([make_endpoint(n, capacity=c) for n, c in ((A, 2.0), (B, 1.0), (C, 1.0))])
    guarded = law.run(10, others_on(B), TENS)
    assert guarded.weights[B] == guarded.weights[C]
    assert "because it swung" in guarded.facts[B].reason
    after = law.run(160, others_on(B), TENS)
    assert after.guard_until is None
    assert after.weights[B] < after.weights[C]


def test_pushes_keep_their_gap(make_endpoint: Maker, make_pool: Pools) -> None:
    law, pushed = Steady(make_pool([make_endpoint(n) for n in (A, B, C)])), []
    law.run(1, same([A, B, C]), TENS)
    for tick in range(200):
        law.pool = make_pool([make_endpoint(A, capacity=1 + tick % 5), make_endpoint(B, 1.0), make_endpoint(C, 1.0)])
        if law.run(1, same([A, B, C]), TENS).changed:
            pushed.append(law.now)
    assert len(pushed) > 10
    assert min(b - a for a, b in itertools.pairwise(pushed)) >= 6


def test_pool_load_is_by_room_and_unknown_when_half_is(make_endpoint: Maker, make_pool: Pools) -> None:
    pool = make_pool([make_endpoint(A, capacity=3), make_endpoint(B, capacity=1)])
    full, idle = {"kv": 1.0, "waiting": 20.0, "running": 64.0}, {"kv": 0.0, "waiting": 0.0, "running": 0.0}
    assert Steady(pool).run(1, {A: full, B: idle}).pool_load == pytest.approx(75.0, abs=2)
    assert Steady(pool).run(1, {B: idle}).pool_load is None
    assert Steady(pool).run(1, {A: full}).pool_load == pytest.approx(100.0)


def test_a_broken_or_foreign_memory_is_forgotten() -> None:
    good = dump(PoolMemory(5.0))
    assert restore(good, 5.0) == PoolMemory(5.0)
    for bad in (None, [], {}, {**good, "version": 99}, {**good, "at": "x"}, {**good, "nodes": {"a": {}}}):
        assert restore(bad, 5.0) is None


def test_a_memory_moves_to_the_clock_of_a_new_process(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    before = law.run(20, others_on(A), TENS).weights
    assert law.memory is not None
    memory = restore(json.loads(json.dumps(dump(law.memory))), 3.0, elapsed=1.0)
    _, verdict = weigh(law.pool, memory, LoadView(), 3.0)
    assert verdict.weights == before
    assert not verdict.changed


NUMBER = st.one_of(
    st.none(),
    st.floats(0, 100),
    st.sampled_from([math.nan, math.inf, -1.0, 0.0, 1e308, 1e-300]),
)
SAMPLE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("waiting", "running", "kv", "cpu", "memory", "generated_tokens", "room_tokens"), NUMBER)
)
TICK = st.tuples(
    st.floats(0.0, 30.0),
    st.dictionaries(st.sampled_from((A, B, C)), st.tuples(st.floats(-30.0, 5.0), SAMPLE)),
    st.one_of(st.none(), st.dictionaries(st.sampled_from((A, B, C)), st.integers(0, 200))),
    st.frozensets(st.sampled_from((A, B, C)), min_size=1),
)
CAPACITIES = st.fixed_dictionaries({n: st.one_of(st.none(), st.floats(0.001, 1000)) for n in (A, B, C)})


def play(
    ticks: Sequence[tuple[float, dict[str, tuple[float, dict[str, float]]], dict[str, int] | None, frozenset[str]]],
    pool_of: Callable[[frozenset[str]], ir.Pool],
    turn: bool = False,
    saved: bool = False,
) -> list[Verdict]:
    view, memory, now, verdicts = LoadView(), None, 100.0, []
    for wait, samples, counts, nodes in ticks:
        now += wait
        found = {n: LoadSample(n, now + off, **numbers) for n, (off, numbers) in samples.items()}
        inflight = None if counts is None else {("pool", n): v for n, v in counts.items()}
        if turn:
            found = dict(reversed(found.items()))
            inflight = None if inflight is None else dict(reversed(inflight.items()))
        view = keep(fold(view, LoadRound(now, found, inflight)), nodes)
        memory, verdict = weigh(pool_of(nodes), memory, view, now)
        verdicts.append(verdict)
        if saved:
            memory = restore(json.loads(json.dumps(dump(memory))), now)
    return verdicts


@pytest.mark.parametrize("profile", ["llm", "classic"])
@settings(max_examples=40, deadline=None)
@given(ticks=st.lists(TICK, min_size=1, max_size=15), capacities=CAPACITIES)
def test_any_input_whatever_gives_weights_that_envoy_takes(
    profile: ir.Profile,
    ticks: list[tuple[float, dict[str, tuple[float, dict[str, float]]], dict[str, int] | None, frozenset[str]]],
    capacities: dict[str, float | None],
    make_endpoint: Maker,
    make_pool: Pools,
) -> None:
    def pool_of(nodes: frozenset[str], turn: bool = False) -> ir.Pool:
        listed = [make_endpoint(n, capacity=capacities[n]) for n in sorted(nodes, reverse=turn)]
        pool = make_pool(listed, profile)
        parts = tuple(ir.Part(f"part-{i}", (e,), None, None) for i, e in enumerate(listed))
        return replace(pool, parts=parts) if turn else pool

    verdicts = play(ticks, pool_of)
    for (_, _, _, nodes), verdict in zip(ticks, verdicts, strict=True):
        weights = verdict.weights
        assert set(weights) == nodes
        assert all(isinstance(w, int) and 1 <= w <= 65536 for w in weights.values())
        assert max(weights.values()) <= 64 * min(weights.values())
        assert verdict.equal is (len(set(weights.values())) < 2)
        assert all(facts.reason for facts in verdict.facts.values())
    assert play(ticks, pool_of) == verdicts
    assert play(ticks, lambda nodes: pool_of(nodes, turn=True), turn=True) == verdicts
    assert play(ticks, pool_of, saved=True) == verdicts


@pytest.mark.parametrize("profile", ["llm", "classic"])
@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(st.tuples(SAMPLE, st.integers(0, 100)), min_size=1, max_size=40))
def test_nodes_that_are_all_alike_are_never_told_apart(
    profile: ir.Profile, numbers: list[tuple[dict[str, float], int]], make_endpoint: Maker, make_pool: Pools
) -> None:
    pool = make_pool([make_endpoint(n) for n in (A, B, C)], profile)
    ticks = [
        (2.0, dict.fromkeys((A, B, C), (0.0, s)), dict.fromkeys((A, B, C), own), frozenset((A, B, C)))
        for s, own in numbers
    ]
    for verdict in play(ticks, lambda _: pool):
        assert set(verdict.weights.values()) == {1024}
