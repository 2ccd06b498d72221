"""Whose page is believed: what a gateway counts itself is of now, what others count is two seconds old."""

from __future__ import annotations

from random import Random

import pytest

from weighbridge_dataplane.doubts import Doubts
from weighbridge_dataplane.facts import Sample


def page(at: float, there: float, tokens: float | None = None) -> Sample:
    return Sample(at, running=there, waiting=0, life=100 * at if tokens is None else tokens)


def test_who_says_less_than_half_of_what_we_hold_there_is_doubted_at_the_second_page() -> None:
    doubts = Doubts()
    assert not doubts.rise(page(1, 8), 8, 8, 0)
    assert not doubts.rise(page(1.25, 0), 8, 8, 0)
    assert doubts.rise(page(1.5, 0), 8, 8, 0)


@pytest.mark.parametrize("ours", [1, 4, 16])
def test_who_says_half_of_what_all_hold_there_is_found_out(ours: int) -> None:
    doubts = Doubts()
    found = [doubts.rise(page(1 + n / 4, 8), ours, ours, 16 - ours) for n in range(80)]
    assert found[-1]
    assert not found[0]


def test_others_short_requests_that_are_told_late_are_no_sign() -> None:
    """All that others had when it was counted has ended since, and new ones have come, or have not."""
    doubts, random = Doubts(), Random(1)
    others = [random.choice([2, 4, 6, 8, 10]) for _ in range(400)]
    told = 0
    for n in range(400):
        told = others[max(0, n - 8)] if n % 8 == 0 else told
        assert not doubts.rise(page(1 + n / 4, others[n] + 2), 2, 2, told), n


def test_requests_that_ended_since_they_were_counted_are_no_sign() -> None:
    """Of ours, none is known to have ended since Envoy's page: those that were named since may have."""
    doubts = Doubts()
    for n in range(40):
        assert not doubts.rise(page(1 + n / 4, 2), 7, 3, 0)


def test_who_answers_nobody_for_a_second_is_doubted() -> None:
    doubts = Doubts()
    found = [doubts.rise(page(1 + n / 4, 5, 700.0), 5, 5, 0) for n in range(8)]
    assert not any(found[:4])
    assert all(found[4:])
