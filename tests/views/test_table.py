"""`status` and `explain` in words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from support import reports
from weighbridge_operator.report import EnvoyReport, KindReport, PrometheusReport, Report, SignalReport
from weighbridge_operator.views import words
from weighbridge_operator.views.lines import paint, width_of
from weighbridge_operator.views.table import tell_reasons, tell_status

SAMPLES = (reports.healthy, reports.troubled, reports.many, reports.foreign)


def status(report: Report, width: int | None = None, colour: bool = False) -> str:
    return "\n".join(paint(line, colour) for line in tell_status(report, width))


def explain(report: Report, width: int | None = None) -> str:
    nodes = [o for o in report.objects if o.kind == "ModelNode"]
    return "\n".join(paint(line, False) for line in tell_reasons(report, nodes, width))


def test_a_node_stands_in_one_line_with_its_numbers_and_its_reason() -> None:
    line = next(line for line in status(reports.healthy()).splitlines() if "qwen-middle" in line)
    assert line.split()[:13] == [
        "✓",
        "qwen-middle",
        "yes",
        "52",
        "8",
        "29%",
        "30%",
        "2",
        "12",
        "61%",
        "0.8",
        "s",
        "weight",
    ]
    assert "nobody else's requests weigh here" in line


def test_what_is_not_known_is_a_dash() -> None:
    line = next(line for line in status(reports.troubled()).splitlines() if "qwen-silent" in line)
    assert line.split()[:12] == ["?", "qwen-silent", "no:", "NoMetrics", "-", "8", "29%", "-", "-", "-", "-", "-"]


def test_an_ejected_node_an_invalid_one_and_problems_are_told_without_colour() -> None:
    text = status(reports.troubled())
    assert "✗  qwen-large" in text
    assert "out of service" in text
    assert "✗  qwen-broken" in text
    assert "spec.models: a node needs a model" in text
    assert "✗ nodes/broken.yaml:7:3" in text


def test_the_text_of_a_rejection_is_there_in_full_and_red() -> None:
    plain, coloured = status(reports.troubled(), 60), status(reports.troubled(), 60, colour=True)
    said = " ".join(plain.split())
    for part in reports.NACK.replace("\x1b[31m", "").splitlines():
        assert part in said
    assert "LDS default_qwen-large-b20737d7 REFUSED, runs 001122334455" in plain
    assert "accepted: CDS 3f2ab1c09d8e, EDS" in plain
    assert next(line for line in coloured.splitlines() if "Error adding" in line).startswith("\x1b[1;31m")
    assert "\x1b" not in plain


def test_an_envoy_that_has_not_answered_is_told_from_one_that_refuses() -> None:
    waiting = EnvoyReport("e", "1.40.0", 1.0, False, (KindReport("CDS", "aa", None, None, None),))
    text = status(reports.make_report((), (waiting,)))
    assert "aa offered, not answered yet, runs none" in text
    assert "REFUSE" not in text


def test_no_envoy_and_no_node_are_said() -> None:
    text = status(reports.make_report((), ()))
    assert "none is connected" in text
    assert "no ModelNode yet" in text


@pytest.mark.parametrize("make", SAMPLES)
@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_every_sample_keeps_to_the_width(make: object, width: int) -> None:
    report: Report = make()  # type: ignore[operator]
    nodes = [o for o in report.objects if o.kind == "ModelNode"]
    lines = [*tell_status(report, width), *tell_reasons(report, nodes, width)]
    assert max(map(width_of, lines)) <= width


def test_the_score_is_told_with_its_arithmetic() -> None:
    lines = [line.split() for line in explain(reports.healthy()).splitlines()]
    assert ["queue", "5", "of", "10", "→", "0.50", "×", "40", "=", "20.0"] in lines
    assert ["kv", "27%", "→", "0.27", "×", "40", "=", "10.8"] in lines
    assert ["running", "12", "of", "64", "→", "0.19", "×", "20", "=", "3.8"] in lines
    assert ["score", "=", "34.4"] in lines


def test_each_signal_says_where_it_was_read_and_when() -> None:
    parts = (
        SignalReport("cpu", 0.4, 0.4, 20.0, "Prometheus p:9090", 12.0),
        SignalReport("queue", 5.0, 0.5, 25.0, "scrape", 0.5),
        SignalReport("running", 1.0, 0.1, 1.0),
    )
    report = reports.healthy()
    first = report.objects[0]
    told = replace(first, endpoints=(replace(first.endpoints[0], parts=parts),))
    text = explain(replace(report, objects=(told,)))
    assert re.search(r"cpu +40% .* 20\.0 +Prometheus p:9090, 12 s ago", text)
    assert re.search(r"queue .* 25\.0 +its own page, 0\.5 s ago", text)
    idle = SignalReport("queue", 0.0, 0.0, 0.0, "scrape", 0.5, 40.0)
    assert words.arithmetic(idle) == "queue 0 → 0 × 40 = 0.0 (its own page, 0.5 s ago)"
    assert words.arithmetic(parts[0]) == "cpu 40% → 0.4 × 50 = 20.0 (Prometheus p:9090, 12 s ago)"


def test_a_pool_says_what_else_leads_to_it_than_its_name() -> None:
    report = reports.healthy()
    (pool,) = report.pools
    for serves, told in (
        ((pool.name,), f"pool {pool.name} · llm"),
        ((pool.name, "a: m", "b: m"), f"pool {pool.name} (also a: m, b: m) · llm"),
        ((pool.name, *(f"p: m{number}" for number in range(5))), "(also p: m0, p: m1, p: m2 and 2 more) · llm"),
    ):
        assert told in status(replace(report, pools=(replace(pool, serves=serves),)))


def test_a_node_without_score_or_pool_is_explained_too() -> None:
    text = explain(reports.troubled())
    assert "no score: none of its signals is known" in text
    assert "Invalid: spec.models" in text


def test_a_prometheus_that_gives_nothing_is_told_though_no_node_lacks_it() -> None:
    well = PrometheusReport("p:9090", 40, 2, 3.5, 0.0, None)
    silent = PrometheusReport("q:9090", 4, 4, None, None, "cannot be connected to")
    told = status(replace(reports.healthy(), prometheus=(well, silent)), 120)
    assert "NOTICES (1)" in told
    assert "Prometheus q:9090 cannot be connected to: nothing is read from it (--prometheus)" in told
    assert "p:9090" not in told
