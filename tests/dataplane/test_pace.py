"""When nodes are asked: evenly, each as often as the period says, slower where this process is late."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_dataplane.pace import LONGEST, LONGEST_PAUSE, PERIOD, Pace, Patience


@pytest.mark.parametrize("nodes", [1, 3, 100, 1000])
def test_every_node_is_asked_once_a_period_and_never_many_at_once(nodes: int) -> None:
    pace, now, asked, most = Pace(Random(1).random), 100.0, Counter[int](), 0
    pace.turn(nodes, now)
    while now < 110.0:
        now += pace.tick(nodes)
        due = pace.turn(nodes, now)
        most = max(most, len(due))
        asked.update(place % nodes for place in due)
    assert most <= nodes // 20 + 2  # one that a rounding put off comes with the next
    assert set(asked) == set(range(nodes))
    assert all(38 <= count <= 42 for count in asked.values())


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 100)), max_size=30))
def test_a_long_sleep_asks_nobody_twice(turns: list[tuple[int, float]]) -> None:
    pace, now = Pace(Random(1).random), 0.0
    for nodes, passed in turns:
        now += passed
        assert len(pace.turn(nodes, now)) <= nodes + 1


def test_a_process_that_is_late_asks_less_often_and_then_again_as_before() -> None:
    pace = Pace(Random(1).random)
    for _ in range(200):
        pace.feel(0.05)
    assert pace.period == LONGEST
    for _ in range(300):
        pace.feel(0.0)
    assert pace.period == PERIOD


def test_a_node_that_fails_is_asked_less_and_less_often() -> None:
    patience, now, asked = Patience(), 0.0, 0
    while now < 60:
        if patience.is_due(now):
            asked += 1
            patience.take(False, now)
        now += PERIOD
    assert 60 / LONGEST_PAUSE <= asked <= 20
    patience.take(True, now)
    assert patience.is_due(now)


@pytest.mark.parametrize("nodes", [1, 3, 40, 1000])
def test_what_comes_as_regularly_as_nodes_are_asked_is_seen_for_the_time_that_it_takes(nodes: int) -> None:
    every, lasts = 0.125, 0.016  # seconds: half of the period exactly, as a load of eight requests a second is
    pace, now, seen, asked = Pace(Random(1).random), 0.0, [0] * 8, 0
    while now < 240.0:
        now += pace.tick(nodes) + 0.001  # a wake is never early
        if any(place % nodes == 0 for place in pace.turn(nodes, now)):
            asked += 1
            for phase in range(8):
                seen[phase] += (now - phase * every / 8) % every < lasts
    assert min(seen) > 0.6 * asked * lasts / every
    assert max(seen) < 1.5 * asked * lasts / every
