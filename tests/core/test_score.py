"""Scores: the worked case, and what an absent signal does."""

from __future__ import annotations

import pytest

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, NodeLoad, fold
from weighbridge_operator.core.score import PROFILES, score
from weighbridge_operator.state import LoadRound

NODE = "default/a"


def load_of(at: float = 0.0, **numbers: float) -> NodeLoad:
    return fold(LoadView(), LoadRound(at, {NODE: LoadSample(NODE, at, **numbers)})).load(NODE)


def balance(profile: ir.Profile, **weights: float) -> ir.Balance:
    data = PROFILES[profile]
    return ir.Balance(profile, tuple(sorted(weights.items())) or data.weights, data.queue_maximum, bool(weights))


@pytest.mark.parametrize(
    ("cpu", "memory", "queue", "value"),
    [(0.30, 0.40, 5, 25.5), (0.75, 0.65, 20, 55.5), (0.25, 0.35, 3, 21.4), (0.40, 0.50, 8, 33.4)],
)
def test_the_worked_case(cpu: float, memory: float, queue: float, value: float) -> None:
    found = score(load_of(cpu=cpu, memory=memory, waiting=queue), balance("classic"), None, 0.0)
    assert found is not None
    assert found.value == pytest.approx(value)
    assert sum(part.points for part in found.parts) == pytest.approx(value)


def test_the_fleet_of_the_worked_case_has_the_mean_that_is_told() -> None:
    nodes = [(0.30, 0.40, 5), (0.75, 0.65, 20), (0.25, 0.35, 3), (0.40, 0.50, 8)]
    found = [score(load_of(cpu=c, memory=m, waiting=q), balance("classic"), None, 0.0) for c, m, q in nodes]
    assert sum(s.value for s in found if s) / 4 == pytest.approx(33.95)


def test_a_signal_that_is_away_leaves_both_sums() -> None:
    found = score(load_of(cpu=0.5, memory=0.5), balance("classic"), None, 0.0)
    assert found is not None
    assert found.value == pytest.approx(50.0)
    assert {part.signal for part in found.parts} == {"cpu", "memory"}


def test_no_fresh_signal_is_no_score_and_never_zero() -> None:
    assert score(NodeLoad(), balance("llm"), 64, 0.0) is None
    assert score(load_of(at=0.0, kv=0.5), balance("llm"), 64, 20.1) is None
    assert score(load_of(at=0.0, kv=0.5), balance("llm"), 64, 19.9) is not None


def test_running_counts_only_where_concurrency_is_known() -> None:
    load = load_of(waiting=0.0, kv=0.5, running=64.0)
    with_it, without = score(load, balance("llm"), 64, 0.0), score(load, balance("llm"), None, 0.0)
    assert with_it is not None
    assert without is not None
    assert with_it.value == pytest.approx(40.0)
    assert {part.signal: part.full for part in with_it.parts} == {"kv": 40.0, "queue": 40.0, "running": 20.0}
    assert without.value == pytest.approx(25.0)


def test_a_saturated_node_scores_above_80_in_llm() -> None:
    found = score(load_of(waiting=15.0, kv=0.97, running=50.0), balance("llm"), 64, 0.0)
    assert found is not None
    assert found.value > 80


def test_the_queue_of_a_plain_server_is_what_is_in_flight_above_its_concurrency() -> None:
    found = score(NodeLoad(), balance("classic"), 8, 0.0, inflight=33)
    assert found is not None
    assert [(p.signal, p.value) for p in found.parts] == [("queue", 25.0)]
    assert score(NodeLoad(), balance("classic"), None, 0.0, inflight=33) is None


def test_users_weights_need_not_sum_to_100_and_name_any_signal() -> None:
    load = load_of(gpu=0.9, gpu_memory=0.5, latency=1.5, cpu=0.1)
    found = score(load, balance("llm", gpu=2.0, gpuMemory=1.0, latency=1.0, cpu=0.0), None, 0.0)
    assert found is not None
    assert found.value == pytest.approx(100 * (2 * 0.9 + 0.5 + 0.5) / 4)
    assert found.parts[0].signal == "gpu"
