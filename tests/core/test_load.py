"""Folding rounds into a view: what is absent stays absent, what is old is not news."""

from __future__ import annotations

import math

import pytest

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core.load import WINDOW, LoadView, fold, keep
from weighbridge_operator.state import LoadRound

NODE = "default/a"


def round_of(at: float, inflight: dict[tuple[str, str], int] | None = None, **numbers: float | str | None) -> LoadRound:
    return LoadRound(at, {NODE: LoadSample(NODE, at, **numbers)}, inflight)  # type: ignore[arg-type]


def test_absent_stays_absent() -> None:
    view = fold(LoadView(), round_of(1.0, running=3.0))
    last = view.load(NODE).last
    assert last is not None
    assert (last.running, last.waiting, last.kv) == (3.0, None, None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, 1e308])
def test_an_impossible_number_is_absent_and_the_others_count(bad: float) -> None:
    last = fold(LoadView(), round_of(1.0, running=bad, waiting=2.0)).load(NODE).last
    assert last is not None
    assert (last.running, last.waiting) == (None, 2.0)


def test_a_sample_without_any_number_is_a_failure_with_its_reason() -> None:
    view = fold(LoadView(), round_of(1.0, running=3.0, waiting=0.0))
    view = fold(view, round_of(3.0, error="connection refused"))
    load = view.load(NODE)
    assert load.age(4.0) == 3.0
    assert not load.fresh(4.0)
    assert load.error == "connection refused"
    assert fold(view, round_of(5.0, running=1.0)).load(NODE).fresh(5.0)


def test_a_sample_that_is_not_newer_says_nothing() -> None:
    view = fold(LoadView(), round_of(5.0, running=3.0))
    again = fold(view, LoadRound(7.0, {NODE: LoadSample(NODE, 5.0, running=9.0)}))
    older = fold(view, LoadRound(7.0, {NODE: LoadSample(NODE, 4.0, running=9.0)}))
    assert again.load(NODE) == older.load(NODE) == view.load(NODE)


def test_a_counter_that_falls_is_a_restart_and_begins_a_new_window() -> None:
    view = LoadView()
    for at, tokens in ((1.0, 100.0), (3.0, 200.0), (5.0, 10.0)):
        view = fold(view, round_of(at, running=1.0, generated_tokens=tokens))
    assert [s.generated_tokens for s in view.load(NODE).readings] == [10.0]


def test_the_window_is_bounded() -> None:
    view = LoadView()
    for at in range(100):
        view = fold(view, round_of(float(at), {("pool", NODE): at}, running=1.0))
    assert len(view.load(NODE).readings) == WINDOW
    assert len(view.counts) < 50


def test_counts_are_compared_from_the_same_instant_only() -> None:
    view = LoadView()
    for at in (0.0, 2.0, 4.0, 6.0, 8.0):
        view = fold(view, round_of(at, {("pool", NODE): int(at)}, running=1.0))
    assert view.inflight("pool", NODE, 2.1) == 2
    assert view.inflight("pool", NODE, 20.0) is None
    assert view.inflight("other", NODE, 2.0) is None


def test_an_incomplete_count_is_none_and_not_the_last_one() -> None:
    view = fold(fold(LoadView(), round_of(0.0, {("pool", NODE): 7}, running=1.0)), round_of(2.0, None, running=1.0))
    assert view.inflight("pool", NODE, 2.0) is None


def test_room_is_held_while_metrics_are_away() -> None:
    view = fold(LoadView(), round_of(0.0, running=1.0, room_tokens=40_000.0))
    view = fold(view, round_of(2.0, running=1.0))
    assert view.load(NODE).room_tokens == 40_000.0


def test_a_slow_source_may_be_older_than_a_quick_one() -> None:
    slow, quick = LoadView(), LoadView()
    for at in (0.0, 15.0, 30.0):
        slow = fold(slow, round_of(at, running=1.0))
    for at in (26.0, 28.0, 30.0):
        quick = fold(quick, round_of(at, running=1.0))
    assert slow.load(NODE).fresh(60.0)
    assert not quick.load(NODE).fresh(60.0)


def test_a_sample_from_the_future_does_not_block_the_next() -> None:
    view = fold(LoadView(), LoadRound(0.0, {NODE: LoadSample(NODE, 1e9, running=1.0)}))
    assert fold(view, round_of(2.0, running=2.0)).load(NODE).fresh(2.0)


def test_nodes_that_are_gone_are_dropped() -> None:
    view = fold(LoadView(), round_of(0.0, running=1.0))
    assert keep(view, ["default/b"]).load(NODE).last is None
    assert keep(view, [NODE]).load(NODE).last is not None
