"""Engines that count tokens at ends: an honest node is not taken for frozen, nor a slow one for a fast one."""

from __future__ import annotations

import pytest

from weighbridge_dataplane.doubts import Doubts
from weighbridge_dataplane.facts import Sample
from weighbridge_dataplane.rates import Rates
from weighbridge_dataplane.readings import find_table, read_sample
from weighbridge_simulator.control import Control
from weighbridge_simulator.engine import Job
from weighbridge_simulator.node import Node, NodeSpec
from weighbridge_simulator.pages import EngineKind

ENGINES: tuple[EngineKind, ...] = ("vllm", "sglang", "tgi", "triton", "llamacpp")


def watch(engine: EngineKind, answer: int, slow: float = 1.0, requests: int = 4, seconds: int = 40) -> list[Sample]:
    """Four pages a second of a node that always has so many requests."""
    node = Node(NodeSpec(engine=engine, control=Control(slow=slow)), 0.0)
    table = find_table(engine)
    assert table is not None
    samples, there = [], 0
    for look in range(4 * seconds):
        now = look / 4
        there -= sum(kind == "end" for _, kind, __ in node.advance(now))
        while there < requests:
            node.submit(Job(200, answer + 40 * there), now)
            there += 1
        sample = read_sample(table, [node.page(now).encode()], {}, now)
        assert sample is not None
        samples.append(sample)
    return samples


@pytest.mark.parametrize("engine", ENGINES)
def test_a_node_that_gives_long_answers_is_not_taken_for_a_frozen_one(engine: EngineKind) -> None:
    doubts = Doubts()
    assert not any(doubts.rise(sample, 4, 4, 0) for sample in watch(engine, 600))


@pytest.mark.parametrize("engine", ["vllm", "tgi", "triton", "llamacpp"])
def test_one_that_stands_still_is_found_out_where_each_step_is_counted(engine: EngineKind) -> None:
    doubts, last = Doubts(), watch(engine, 600, seconds=10)[-1]
    found = [
        doubts.rise(Sample(last.at + look / 4, running=4, waiting=0, life=last.life), 4, 4, 0) for look in range(8)
    ]
    assert found[-1]
    assert not found[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("answer", [40, 300])
def test_a_node_that_is_five_times_slower_is_seen_to_be(engine: EngineKind, answer: int) -> None:
    speeds = []
    for slow in (1.0, 5.0):
        rates = Rates()
        for sample in watch(engine, answer, slow, seconds=120):
            rates.learn(sample, None)
        assert rates.speed is not None
        speeds.append(rates.speed)
    assert 3 < speeds[0] / speeds[1] < 8


@pytest.mark.parametrize("seconds", [30.0, 61.0, 121.0, 300.0])
def test_answers_of_minutes_are_no_faster_than_they_were(seconds: float) -> None:
    """One request after the other, 50 tokens a second, counted where it ends."""
    rates, tokens = Rates(), 0.0
    for look in range(int(4 * 4 * seconds)):
        tokens = 50 * seconds * (look / 4 // seconds)
        rates.learn(Sample(look / 4, 0.1, 0, 1, 0.0, tokens), None)
    assert rates.speed == pytest.approx(50, rel=0.05)
