"""The law tick by tick: others' load, speed, lies, swinging, and what a restart remembers."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from support.steady import BUSY, TENS, A, B, C, Maker, Pools, Steady, others_on, same
from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core.load import LoadView, fold
from weighbridge_operator.core.memory import PoolMemory, dump, restore
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound


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


@pytest.mark.parametrize(("steps", "suspicion"), [(50.0, "none"), (0.0, "frozen")])
def test_an_engine_that_counts_tokens_at_an_answer_s_end_is_believed_by_its_steps(
    make_endpoint: Maker, make_pool: Pools, steps: float, suspicion: str
) -> None:
    pool, view, memory = make_pool([make_endpoint(A)]), LoadView(), None
    for tick in range(10):
        sample = LoadSample(A, tick * 2.0, running=9.0, waiting=0.0, generated_tokens=7.0, steps=tick * steps)
        view = fold(view, LoadRound(tick * 2.0, {A: sample}, {("pool", A): 9}))
        memory, verdict = weigh(pool, memory, view, tick * 2.0)
    assert verdict.facts[A].suspicion == suspicion


def test_speed_alone_never_makes_weights_unequal(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    assert set(law.run(60, {**same([B, C]), A: {**BUSY, "rate": 2.0}}, TENS).weights.values()) == {1024}


def test_speed_trims_a_slow_node_where_rooms_differ(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(A, capacity=2), make_endpoint(B, capacity=2), make_endpoint(C, capacity=1)]))
    weights = law.run(60, {**same([B, C]), A: {**BUSY, "rate": 2.5}}, TENS).weights
    assert weights[A] == pytest.approx(weights[B] / 4, rel=0.01)


SPARE = {A: {**BUSY, "kv": 0.2, "rate": 15.0}, **same([B, C], kv=0.9)}


@pytest.mark.parametrize("profile", ["llm", "classic"])
def test_a_node_that_stays_emptier_gets_twice_its_capacity_and_no_more(
    profile: str, make_endpoint: Maker, make_pool: Pools
) -> None:
    law = Steady(make_pool([make_endpoint(A, capacity=1), *(make_endpoint(n, capacity=8) for n in (B, C))], profile))
    assert law.run(30, SPARE, TENS).facts[A].trimmed == 1
    raised = law.run(300, SPARE, TENS)
    assert raised.facts[A].trimmed == 2
    assert raised.facts[A].capacity == 2 / 8
    assert "because it stays emptier" in raised.facts[A].reason
    # Another word of the user starts anew.
    law.pool = make_pool([make_endpoint(A, capacity=2), *(make_endpoint(n, capacity=8) for n in (B, C))], profile)
    assert law.run(1, SPARE, TENS).facts[A].trimmed == 1


def test_much_kv_is_no_room_where_compute_binds(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(A, capacity=1), *(make_endpoint(n, capacity=8) for n in (B, C))]))
    assert law.run(300, {**SPARE, A: {**SPARE[A], "rate": 10.0}}, TENS).facts[A].trimmed == 1
    assert law.run(300, SPARE, TENS).facts[A].trimmed == 2
    assert law.run(100, {**SPARE, A: {**SPARE[A], "rate": 8.0}}, TENS).facts[A].trimmed < 2


@pytest.mark.parametrize("profile", ["llm", "classic"])
@pytest.mark.parametrize(
    "lie", [{"running": 6.0}, {"running": 0.0, "rate": 0.0}, {"kv": math.nan}, {"running": math.nan}]
)
def test_a_node_whose_counts_are_not_ours_gets_no_more_room(
    profile: str, lie: dict[str, float], make_endpoint: Maker, make_pool: Pools
) -> None:
    law = Steady(make_pool([make_endpoint(A, capacity=1), *(make_endpoint(n, capacity=8) for n in (B, C))], profile))
    assert law.run(300, {**SPARE, A: {**SPARE[A], **lie}}, TENS).facts[A].trimmed == 1


def test_what_an_engine_publishes_is_never_raised(make_endpoint: Maker, make_pool: Pools) -> None:
    law = Steady(make_pool([make_endpoint(n) for n in (A, B, C)]))
    numbers = {n: {**v, "room_tokens": 40_000.0 if n == A else 80_000.0} for n, v in SPARE.items()}
    verdict = law.run(300, numbers, TENS)
    assert verdict.facts[A].room_source == "published"
    assert verdict.weights[A] < verdict.weights[B]
    assert verdict.facts[A].trimmed == 1


def test_sequences_of_a_request_are_neither_one_liar_s_nor_one_stranger_s(
    make_endpoint: Maker, make_pool: Pools
) -> None:
    names = [f"default/{i}" for i in range(6)]
    law = Steady(make_pool([make_endpoint(n) for n in names]))
    # Every request asks for two answers; one node tells of half of them, and others send one as many again.
    numbers = {n: {**BUSY, "running": 20.0} for n in names}
    numbers[names[0]]["running"], numbers[names[1]]["running"] = 10.0, 40.0
    verdict = law.run(60, numbers, dict.fromkeys(names, 10))
    assert [n for n in names if verdict.weights[n] < 1024] == [names[1]]


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
