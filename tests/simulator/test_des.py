"""Runs in virtual time: the same requests for every mechanism, the same outcome for the same seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from weighbridge_simulator import rivals
from weighbridge_simulator.des import simulate
from weighbridge_simulator.gateway import Policy
from weighbridge_simulator.observation import Observation
from weighbridge_simulator.scenario import UNIT_RATE, Lie, Others, Scenario, Slowdown, Traffic, fleet

EVEN = fleet((1, 1, 1))
SHORT = Scenario(EVEN, Traffic(1.5 * UNIT_RATE), duration=120, warm=20)


class Recorder:
    def __init__(self, weights: Sequence[int] | None = None) -> None:
        self.seen: list[tuple[float, Observation]] = []
        self.weights = weights

    def tick(self, now: float, seen: Observation, /) -> Sequence[int] | None:
        self.seen.append((now, seen))
        return self.weights


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    first, second, other = (simulate(SHORT, Policy(), seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.waits != other.waits


def test_arrivals_do_not_depend_on_the_mechanism() -> None:
    arrivals = [
        [at for at, _ in simulate(SHORT, policy, controller, seed=4).picks]
        for policy, controller in (
            (Policy(), None),
            (Policy("round robin"), None),
            (Policy("weighted random"), rivals.LowestScore(rivals.llm)),
        )
    ]
    assert arrivals[0] == arrivals[1] == arrivals[2]


def test_a_light_load_is_answered_at_once_and_an_impossible_one_is_not() -> None:
    light = simulate(replace(SHORT, traffic=Traffic(0.5)), Policy())
    assert light.answered == 1
    assert light.ttft(0.5) < 0.2
    heavy = simulate(replace(SHORT, traffic=Traffic(12 * UNIT_RATE), timeout=20.0), Policy())
    assert heavy.answered < 0.7
    assert heavy.ttft() == 20.0


def test_the_controller_sees_numbers_of_the_stated_age() -> None:
    recorder = Recorder()
    simulate(SHORT, Policy(), recorder)
    assert len(recorder.seen) > 50
    assert {round(now - seen.at, 6) for now, seen in recorder.seen} == {3.0}
    _, last = recorder.seen[-1]
    report = last.reports[0]
    assert report is not None
    assert last.inflight is not None
    # Nobody else sends here, so what is inside is what the gateways count.
    assert report.running + report.waiting == last.inflight[0]


def test_others_requests_are_inside_but_not_counted() -> None:
    recorder = Recorder()
    simulate(replace(SHORT, others=(Others(0, 20, 120, UNIT_RATE / 2),)), Policy(), recorder)
    _, last = recorder.seen[-1]
    report = last.reports[0]
    assert report is not None
    assert last.inflight is not None
    assert report.running + report.waiting > last.inflight[0]


def test_weights_move_requests() -> None:
    outcome = simulate(SHORT, Policy(), Recorder((400, 100, 100)))
    assert outcome.shares[0] > 1.4 * outcome.shares[1]
    assert [weights for _, weights in outcome.pushes] == [(400, 100, 100)]


def test_a_slow_node_gets_less_of_least_request_and_recovers() -> None:
    outcome = simulate(replace(SHORT, duration=300, slowdowns=(Slowdown(0, 40, 150, 4.0),)), Policy())
    assert outcome.share(0, 60, 150) < 0.25
    assert outcome.share(0, 200) == pytest.approx(1 / 3, abs=0.06)


def test_a_node_joins_when_it_is_said_to() -> None:
    outcome = simulate(replace(SHORT, fleet=(*EVEN[:2], replace(EVEN[2], joins=60.0))), Policy())
    assert outcome.share(2, 20, 60) == 0
    assert outcome.share(2, 70) > 0.2


def test_lies_are_told_from_their_start() -> None:
    recorder = Recorder()
    simulate(replace(SHORT, lies=(Lie("silent", (0,), 50), Lie("idle", (1,), 50))), Policy(), recorder)
    before = next(seen for now, seen in recorder.seen if now > 40)
    _, after = recorder.seen[-1]
    assert before.reports[0] is not None
    assert after.reports[0] is None
    assert after.reports[1] is not None
    assert after.reports[1].running == 0
    assert after.reports[2] is not None


def test_a_run_is_quick() -> None:
    began = time.process_time()
    simulate(Scenario(fleet((4, 4, 2, 2, 1, 1)), Traffic(0.85 * 14 * UNIT_RATE)), Policy(choices=5))
    assert time.process_time() - began < 6
