"""Envoy's lines among ours."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_operator.envoy_log import LINE_LIMIT, EnvoyLog, choose_level

TEXT = b"[warning][config] no answer from xds\n[info][main] started\nmore of it\n[error][lua] it broke\n\n"
SAID = [
    (logging.WARNING, "config: no answer from xds"),
    (logging.DEBUG, "main: started"),
    (logging.DEBUG, "more of it"),
    (logging.ERROR, "lua: it broke"),
]


class Kept(logging.Handler):
    """Keeps level and text."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.levelno, record.getMessage()))


def make() -> tuple[EnvoyLog, Kept]:
    log, kept = logging.Logger("envoy", logging.DEBUG), Kept()
    log.addHandler(kept)
    return EnvoyLog(log), kept


@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_lines_are_whole_however_they_come(cuts: list[int]) -> None:
    lines, kept = make()
    edges = [0, *sorted(cuts), len(TEXT)]
    for start, end in pairwise(edges):
        lines.feed(TEXT[start:end])
    lines.end()
    assert kept.said == SAID
    assert list(lines.tail) == [text for _, text in SAID]


def test_an_endless_line_is_cut_and_the_next_one_is_whole() -> None:
    lines, kept = make()
    for _ in range(100):
        lines.feed(b"x" * 10_000)
    lines.feed(b"\n[error][main] next\n")
    assert [len(text) for _, text in kept.said] == [LINE_LIMIT + 1, len("main: next")]


def test_a_line_cannot_move_the_cursor_or_colour_the_terminal() -> None:
    lines, kept = make()
    lines.feed(b"[error][http] \x1b[31mbad\r\x07\xff \xe2\x80\xae\n")
    assert kept.said[0][1].isprintable()


def test_the_last_line_counts_without_its_end() -> None:
    lines, kept = make()
    lines.feed(b"[critical][assert] dead")
    lines.end()
    assert kept.said == [(logging.CRITICAL, "assert: dead")]


def test_what_an_ordered_end_says_is_a_detail_unless_it_is_an_error() -> None:
    lines, kept = make()
    lines.hush()
    lines.feed(b"[warning][main] caught SIGTERM\n[error][main] no\n")
    assert [level for level, _ in kept.said] == [logging.DEBUG, logging.ERROR]


def test_what_the_pages_say_of_the_key_filter_is_not_said_with_every_change() -> None:
    lines, kept = make()
    lines.feed(b"[warning][misc] message 'x' is contained in file 'y' marked as work-in-progress. API features ...\n")
    lines.feed(b"[warning][misc] another\n")
    assert [level for level, _ in kept.said] == [logging.DEBUG, logging.WARNING]


@pytest.mark.parametrize(("level", "chosen"), [(logging.DEBUG, "info"), (logging.INFO, "warning")])
def test_envoy_writes_only_what_is_shown(level: int, chosen: str) -> None:
    assert choose_level(logging.Logger("envoy", level)) == chosen


def test_what_it_says_of_a_dead_data_plane_is_not_why_it_died() -> None:
    log, _ = make()
    log.feed(b"[warning][config] no answer from xds\n")
    log.feed(b"[warning][ext_proc] Received gRPC error on stream: 14, message no healthy upstream\n" * 8)
    assert list(log.tail) == ["config: no answer from xds"]
