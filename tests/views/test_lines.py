"""Text takes the cells it is given, whatever characters it has, and brings no control characters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_operator.views import words
from weighbridge_operator.views.lines import cells, clean, fit, wrap, wrap_at_most


@settings(max_examples=200)
@given(st.text(max_size=60), st.integers(1, 40), st.booleans())
def test_a_fitted_text_takes_exactly_its_cells(text: str, width: int, right: bool) -> None:
    assert cells(fit(clean(text), width, right)) == width


@settings(max_examples=200)
@given(st.text(max_size=120), st.integers(2, 40))
def test_wrapped_lines_keep_every_word_within_the_width(text: str, width: int) -> None:
    lines = wrap(clean(text), width)
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(clean(text).split())
    assert len(wrap_at_most(clean(text), width, 2)) <= 2


@settings(max_examples=200)
@given(st.text())
def test_cleaned_text_has_no_control_characters(text: str) -> None:
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u202e" for c in clean(text))


def test_escapes_go_as_a_whole_and_leave_the_words_apart() -> None:
    assert clean("one\n\x1b[31mtwo\x1b[0m\x07") == "one two"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "-"),
        (0.0, "0.0 s"),
        (0.84, "0.8 s"),
        (9.96, "10 s"),
        (93, "93 s"),
        (125, "2 min"),
        (7200, "2 h"),
        (4e5, "5 d"),
    ],
)
def test_ages_have_the_digits_that_mean_something(value: float | None, said: str) -> None:
    assert words.seconds(value) == said


def test_what_is_not_known_is_a_dash_and_zero_is_zero() -> None:
    assert [words.count(None), words.score(None), words.percent(None), words.share(None)] == ["-"] * 4
    assert [words.count(0.0), words.score(0.0), words.percent(0.0), words.share(0.0)] == ["0", "0", "0%", "0%"]


def test_a_bar_is_empty_only_for_nothing() -> None:
    assert words.bar(0.0, 4) == words.bar(None, 4) == "    "
    assert words.bar(0.001, 4) == "▏   "
    assert words.bar(0.5, 4) == "██  "
    assert words.bar(7.0, 4) == "████"


def test_signs_have_ascii_forms_that_differ() -> None:
    assert len({words.to_plain(sign) for sign in (words.GOOD, words.WARN, words.BAD)}) == 3
    assert words.to_plain("✗ ██▌ größe 模").isascii()
