"""The live picture on screens of every size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import reports
from weighbridge_operator.demo import list_hints
from weighbridge_operator.report import Report
from weighbridge_operator.views.frame import Screen, draw
from weighbridge_operator.views.lines import paint, width_of

HINTS = ("Ask it:  curl http://127.0.0.1:8080/v1/models", "         -d   'two  spaces'", "End:     Ctrl-C")
LOG = tuple(f"log line {i}" for i in range(9))


def show(report: Report | None, width: int, height: int, elapsed: float = 0.0) -> list[str]:
    return [paint(line, False) for line in draw(report, Screen(width, height), HINTS, LOG, elapsed)]


@pytest.mark.parametrize("make", [reports.healthy, reports.troubled, reports.many, reports.foreign, lambda: None])
@pytest.mark.parametrize("width", [60, 80, 119, 150, 200])
@pytest.mark.parametrize("height", [10, 24, 40])
def test_every_picture_fits_its_screen(make: Callable[[], Report | None], width: int, height: int) -> None:
    lines = draw(make(), Screen(width, height), HINTS, LOG)
    assert len(lines) <= height
    assert max(map(width_of, lines)) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 50)])
def test_nodes_reasons_hints_and_log_are_there(width: int, height: int) -> None:
    text = "\n".join(show(reports.healthy(), width, height))
    for name in ("qwen-large", "qwen-middle", "qwen-small"):
        assert name in text
    assert text.count("capacity 4 given") == 3
    assert "         -d   'two  spaces'" in text
    assert "log line 8" in text
    assert "http://127.0.0.1:8080" in text


def test_the_demo_says_why_on_a_small_terminal() -> None:
    hints = list_hints(("127.0.0.1", 8080), {"large": 45001, "small": 45003}, Path("/tmp/weighbridge-demo-abcdefgh"))
    text = "\n".join(paint(line, False) for line in draw(reports.healthy(), Screen(80, 24), hints))
    assert text.count("capacity 4 given") == 3
    for hint in hints:
        assert "".join(hint.split()) in "".join(text.split())
    for line in hints[1:4]:  # Python, to be copied
        assert line in text.splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_a_refusal_and_problems_are_seen_at_once(width: int, height: int) -> None:
    text = " ".join(" ".join(show(reports.troubled(), width, height)).split())
    assert "1 of 2 REFUSES" in text
    assert "unknown cluster 'pool_x'" in text
    assert "nodes/broken.yaml:7:3" in text
    assert "\x1b" not in text


def test_where_not_all_nodes_fit_the_troubled_one_is_shown_and_the_rest_counted() -> None:
    lines = show(reports.many(), 80, 24)
    shown = [line for line in lines if " node-" in line]
    assert shown[0].startswith("✗ node-077")
    assert any(f"… and {100 - len(shown)} more" in line for line in lines)
    assert lines[-1].startswith("End:")


def test_ages_grow_between_reports_and_unknown_ones_do_not() -> None:
    late = show(reports.troubled(), 120, 40, elapsed=30.0)
    assert next(line for line in late if "qwen-large" in line and "refuses" not in line).endswith("31 s")
    assert next(line for line in late if "? qwen-silent" in line).endswith("-")


def test_an_ejected_node_is_told_by_its_sign_and_in_words() -> None:
    text = "\n".join(show(reports.troubled(), 120, 40))
    assert "✗ qwen-large" in text
    assert "out of service" in text
