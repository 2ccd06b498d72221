"""Of a node's own page and Prometheus the fresher counts, with the instant of each number and no window over both."""

from __future__ import annotations

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, fold
from weighbridge_operator.core.score import score
from weighbridge_operator.sources.merging import MARGIN, Dated, Found, merge
from weighbridge_operator.state import LoadRound

NODE = "lab/a"
PROMETHEUS = "Prometheus p:9090"
BALANCE = ir.Balance("classic", (("cpu", 50.0), ("queue", 50.0)), 10.0)


def found(
    at: float, *, until: float | None = None, own: bool = False, error: str | None = None, **values: float
) -> Found:
    end = at + 20 if until is None else until
    return Found(PROMETHEUS, {name: Dated(value, at, end, own) for name, value in values.items()}, error)


def page(at: float, **values: float) -> LoadSample:
    return LoadSample(NODE, at, **values)


def test_what_was_just_read_goes_before_what_prometheus_scraped_earlier() -> None:
    sample = merge(
        page(100.0, running=4, waiting=1, cpu=0.5), found(97.0, running=9, waiting=9, cpu=0.9), None, NODE, 100
    )
    assert (sample.source, sample.at, sample.running, sample.waiting, sample.cpu) == ("scrape", 100.0, 4, 1, 0.5)
    assert sample.origins == {}


def test_what_no_page_has_comes_from_prometheus_with_its_own_instant() -> None:
    sample = merge(page(100.0, running=4, waiting=1), found(88.0, gpu=0.9), None, NODE, 100)
    assert (sample.source, sample.at, sample.gpu) == ("scrape", 100.0, 0.9)
    assert (sample.origins["gpu"].source, sample.origins["gpu"].at) == (PROMETHEUS, 88.0)


def test_what_is_too_old_is_left_out() -> None:
    sample = merge(page(100.0, running=4), found(70.0, gpu=0.9, kv=0.5), None, NODE, 100)
    assert (sample.gpu, sample.kv) == (None, None)
    assert merge(None, found(70.0, error="answered 401", gpu=0.9), None, NODE, 100).error == "answered 401"


def test_prometheus_takes_over_from_a_page_that_fails_once_it_is_fresher_than_that_was() -> None:
    failed = LoadSample(NODE, 110.0, error="cannot be connected to")
    early = merge(failed, found(99.0, running=5, waiting=0), 100.0, NODE, 110)
    assert (early.running, early.error) == (None, "cannot be connected to")
    later = merge(failed, found(101.0, running=5, waiting=0), 100.0, NODE, 110)
    assert (later.source, later.at, later.running) == (PROMETHEUS, 101.0, 5)


def test_a_page_that_repeats_an_old_instant_gives_way() -> None:
    sample = merge(page(90.0, running=4, waiting=1), found(91.0 + MARGIN, running=5, waiting=1), None, NODE, 100)
    assert (sample.source, sample.running) == (PROMETHEUS, 5)


def test_a_users_own_query_goes_before_both_and_the_older_part_dates_the_requests() -> None:
    sample = merge(page(100.0, running=4, waiting=1), found(95.0, own=True, waiting=8), None, NODE, 100)
    assert (sample.running, sample.waiting) == (4, 8)
    assert (sample.at, sample.source) == (95.0, PROMETHEUS), "in flight is looked up as of the older part"
    assert sample.origins["running"].at == 100.0


def test_counters_of_two_sources_are_no_window_and_no_restart() -> None:
    view = LoadView()
    for at, tokens in ((2.0, 100.0), (4.0, 120.0)):
        view = fold(view, LoadRound(at, {NODE: page(at, running=1, generated_tokens=tokens)}))
    assert len(view.load(NODE).readings) == 2
    other = merge(None, found(6.0, running=1, generated_tokens=90.0), None, NODE, 6.0)
    view = fold(view, LoadRound(6.0, {NODE: other}))
    assert [reading.source for reading in view.load(NODE).readings] == [PROMETHEUS]
    view = fold(view, LoadRound(8.0, {NODE: page(8.0, running=1, generated_tokens=140.0)}))
    assert [reading.source for reading in view.load(NODE).readings] == ["scrape"]


def test_each_signal_of_a_score_says_where_it_is_from_and_ends_by_its_own_age() -> None:
    sample = merge(page(100.0, waiting=5, running=1), found(85.0, until=105.0, cpu=0.8), None, NODE, 100)
    view = fold(LoadView(), LoadRound(100.0, {NODE: sample}))
    now = score(view.load(NODE), BALANCE, None, 104.0)
    assert now is not None
    assert {p.signal: (p.source, p.age) for p in now.parts} == {"cpu": (PROMETHEUS, 19.0), "queue": ("scrape", 4.0)}
    later = score(view.load(NODE), BALANCE, None, 106.0)
    assert later is not None
    assert [part.signal for part in later.parts] == ["queue"], "the page is fresh, what Prometheus said is not"
