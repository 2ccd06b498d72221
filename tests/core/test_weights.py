"""The law tick by tick: rooms, membership, contradictions, words."""

from __future__ import annotations

import pytest

from support.steady import BUSY, FULL, A, B, C, Maker, Pools, Steady, same


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


def test_where_only_some_give_a_capacity_the_others_tokens_are_put_in_its_unit(
    make_endpoint: Maker, make_pool: Pools
) -> None:
    law = Steady(make_pool([make_endpoint(A, capacity=4), make_endpoint(B, capacity=2), make_endpoint(C)]))
    tokens = {A: {"room_tokens": 80_000.0}, B: {"room_tokens": 40_000.0}, C: {"room_tokens": 40_000.0}}
    facts = law.run(2, {n: {**BUSY, **tokens[n]} for n in tokens}).facts[C]
    assert facts.room_raw == pytest.approx(2.0)
    assert "in the unit of the capacities given" in facts.reason
    assert "KV tokens published" not in facts.reason
