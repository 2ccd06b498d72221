"""The classic profile: CPU, memory and queue steer weights by the part that is not ours; 400 s in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, fold
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound
from weighbridge_simulator.scenario import ROOMS, UNIT_RATE, FleetNode, Others, Scenario, Slowdown, Traffic, fleet

Run = Callable[..., Any]

EVEN = (1.0,) * 6
SEEDS = (1, 2, 3)


def of(nodes: tuple[FleetNode, ...], rate: float, **more: Any) -> Scenario:
    return Scenario(nodes, Traffic(rate * UNIT_RATE), **more)


def burdened(load: float) -> Scenario:
    return of(fleet(EVEN), load * 5.5, others=(Others(0, 120, 280, 0.5 * UNIT_RATE),))


def hogged(load: float) -> Scenario:
    """Another program takes most of one node's processor, which slows it."""
    return of(fleet((1, 1, 1)), load * 2.4, slowdowns=(Slowdown(0, 120, 280, 2.5, cpu=0.6),))


def p99(run: Run, what: Scenario, mechanism: str, start: float = 0.0) -> float:
    return median(run(what, mechanism, seed).outcome.ttft(0.99, start) for seed in SEEDS)


@pytest.mark.parametrize(
    "what",
    [
        of(tuple(replace(n, memory=0.2 + 0.1 * i) for i, n in enumerate(fleet(EVEN))), 0.7 * 6),
        of(fleet(EVEN, (5, 1, 1, 1, 1, 1)), 0.85 * 5.2),
        of(fleet(EVEN), 0.85 * 5.5, slowdowns=(Slowdown(0, 120, 280, 2.0),)),
    ],
    ids=["uniform, memory uneven", "one 5x slow", "half speed for a while"],
)
def test_equal_rooms_are_never_pushed(run: Run, what: Scenario) -> None:
    assert all(run(what, "classic", seed).outcome.pushes == [] for seed in SEEDS)
    assert p99(run, what, "classic") <= 1.05 * p99(run, what, "lr")


def test_a_given_capacity_gains_as_in_llm(run: Run) -> None:
    what = of(fleet(ROOMS), 0.74 * 14)
    assert run(what, "classic").outcome.ttft() <= run(what, "lr").outcome.ttft() / 10


def test_others_load_gains_at_least_half_of_what_llm_does(run: Run) -> None:
    what = burdened(0.85)
    gain = p99(run, what, "lr") - p99(run, what, "classic")
    assert gain >= 0.5 * (p99(run, what, "lr") - p99(run, what, "law"))
    for seed in SEEDS:
        assert len(run(what, "classic", seed).outcome.pushes) <= 8
        assert run(what, "classic", seed).outcome.ttft() < 0.6 * run(what, "lr", seed).outcome.ttft()


def test_undeclared_rooms_are_found_within_five_minutes(run: Run) -> None:
    what = of(fleet(ROOMS, given=False), 0.74 * 14)
    assert p99(run, what, "classic", 300) < p99(run, what, "lr", 300)
    assert p99(run, what, "classic") < p99(run, what, "lr")


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_a_busy_processor_loses_share_soon_and_gets_it_back(run: Run, load: float) -> None:
    for seed in SEEDS:
        outcome = run(hogged(load), "classic", seed).outcome
        weights = dict(outcome.pushes)
        begun = [at for at, w in weights.items() if 120 < at <= 150 and w[0] < w[1] == w[2]]
        ended = [at for at, w in weights.items() if 280 < at <= 342 and len(set(w)) == 1]
        assert begun
        assert ended
        assert outcome.share(0, 150, 280) < 0.75 * run(hogged(load), "lr", seed).outcome.share(0, 150, 280)
        assert outcome.share(0, 345) == pytest.approx(1 / 3, abs=0.06)


@pytest.mark.parametrize(
    "what",
    [of(fleet(EVEN), 0.74 * 6), of(fleet(ROOMS), 0.74 * 14), burdened(0.74), hogged(0.74)],
    ids=["uniform", "uneven", "others' load", "busy processor"],
)
def test_better_than_what_others_do_with_the_same_score(run: Run, what: Scenario) -> None:
    ours = run(what, "classic").outcome
    for rival in ("lowest classic score", "100 - classic score"):
        theirs = run(what, rival).outcome
        assert ours.ttft() < theirs.ttft()
        assert ours.answered >= theirs.answered


def test_the_worked_case_gives_the_most_loaded_node_the_least_share(
    make_endpoint: Callable[..., ir.Endpoint], make_pool: Callable[..., ir.Pool]
) -> None:
    nodes = {
        "node-1": (0.30, 0.40, 5),
        "node-2": (0.75, 0.65, 20),
        "node-3": (0.25, 0.35, 3),
        "node-4": (0.40, 0.50, 8),
    }
    pool = make_pool([make_endpoint(n, engine="openai", concurrency=None) for n in nodes], "classic")
    view, memory = LoadView(), None
    for tick in range(300):
        now = 2.0 * tick
        samples = {n: LoadSample(n, now, cpu=c, memory=m, waiting=q) for n, (c, m, q) in nodes.items()}
        view = fold(view, LoadRound(now, samples, {("pool", n): 4 for n in nodes}))
        memory, verdict = weigh(pool, memory, view, now)
        weights = verdict.weights
        assert weights["node-2"] == min(weights.values())
        assert weights["node-3"] == max(weights.values())
    assert weights["node-2"] < weights["node-4"] <= weights["node-1"] <= weights["node-3"]
    reason = verdict.facts["node-2"].reason
    assert "score 55.5" in reason
    assert "not ours" in reason


def test_uncounted_requests_leave_a_score_without_effect(
    make_endpoint: Callable[..., ir.Endpoint], make_pool: Callable[..., ir.Pool]
) -> None:
    pool = make_pool([make_endpoint(n) for n in ("a", "b", "c")], "classic")
    view, memory = LoadView(), None
    for tick in range(60):
        samples = {n: LoadSample(n, 2.0 * tick, cpu=x) for n, x in (("a", 0.9), ("b", 0.2), ("c", 0.2))}
        view = fold(view, LoadRound(2.0 * tick, samples, None))
        memory, verdict = weigh(pool, memory, view, 2.0 * tick)
        assert set(verdict.weights.values()) == {1024}


def test_signal_weights_of_the_user_steer_an_llm_pool_by_the_same_path(
    make_endpoint: Callable[..., ir.Endpoint], make_pool: Callable[..., ir.Pool]
) -> None:
    pool = make_pool([make_endpoint(n) for n in ("a", "b", "c")], "llm", custom=True)
    pool = replace(pool, balance=replace(pool.balance, weights=(("gpu", 1.0),)))
    view, memory = LoadView(), None
    for tick in range(40):
        samples = {n: LoadSample(n, 2.0 * tick, gpu=x) for n, x in (("a", 0.9), ("b", 0.2), ("c", 0.2))}
        view = fold(view, LoadRound(2.0 * tick, samples, dict.fromkeys((("pool", n) for n in ("a", "b", "c")), 5)))
        memory, verdict = weigh(pool, memory, view, 2.0 * tick)
    assert verdict.profile == "classic"
    assert verdict.weights["a"] < verdict.weights["b"] == verdict.weights["c"]
