"""Words between data planes: what is printed is read, and whatever else comes neither crashes nor piles up."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_dataplane.company import HEARD, Company
from weighbridge_dataplane.facts import BLOCKS_MAXIMUM, Beginning, Sent, Told
from weighbridge_dataplane.words import (
    ENTRIES,
    LONGEST,
    Hello,
    WordError,
    Words,
    print_begun,
    print_hello,
    print_sent,
)

addresses = st.builds("10.0.{}.{}:{}".format, st.integers(0, 255), st.integers(0, 255), st.integers(1, 65535))
numbers = st.floats(0, 9, width=32)
entries = st.builds(Sent, addresses, st.integers(0, 1_000_000), st.floats(0, 1e9, width=32), numbers)
hashes = st.lists(st.integers(0, 2**32 - 1).map("{:08x}".format), max_size=BLOCKS_MAXIMUM).map(tuple)
sessions = st.one_of(st.none(), st.integers(0, 2**64 - 1).map("{:016x}".format))
beginnings = st.builds(Beginning, addresses, hashes, sessions, st.floats(0, 1e9, width=32), st.floats(0, 1, width=32))
hellos = st.builds(Hello, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.integers(1, 255))


def read(data: bytes, *cuts: int) -> list[Hello | tuple[Told, ...]]:
    words, found = Words(), list[Hello | tuple[Told, ...]]()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        words.give(data[begin:end])
        while (word := words.take()) is not None:
            found.append(word)
    return found


@given(hellos, st.lists(st.lists(entries, max_size=5), max_size=5), st.lists(st.integers(0), max_size=9))
def test_what_is_printed_is_read_however_it_is_cut(hello: Hello, told: list[list[Sent]], cuts: list[int]) -> None:
    data = print_hello(hello) + b"".join(print_sent(each) for each in told)
    assert read(data, *cuts) == [hello, *map(tuple, told)]


@given(st.lists(beginnings, max_size=70), st.lists(st.integers(0), max_size=9))
def test_beginnings_are_read_as_they_are_printed_in_frames_that_are_not_too_long(
    begun: list[Beginning], cuts: list[int]
) -> None:
    words = read(print_begun(begun), *cuts)
    assert [each for word in words if not isinstance(word, Hello) for each in word] == begun


def test_of_a_beginning_is_told_what_fits() -> None:
    (word,) = read(print_begun([Beginning("10.0.0.1:80", ("0" * 8,) * 99, "s" * 40, 1e300)]))
    assert word == (Beginning("10.0.0.1:80", ("0" * 8,) * BLOCKS_MAXIMUM, None, 1e9),)


def test_more_than_a_frame_holds_is_several() -> None:
    sent = [Sent(f"[fd00:0000:0000:0000:0000:0000:0000:{n:04x}]:65535", 1, 1.0, 0.0) for n in range(3 * ENTRIES - 1)]
    words = read(print_sent(sent))
    assert [len(word) for word in words if not isinstance(word, Hello)] == [ENTRIES, ENTRIES, ENTRIES - 1]
    assert [each for word in words if not isinstance(word, Hello) for each in word] == sent


def test_numbers_beyond_all_bounds_are_told_as_the_bound() -> None:
    (word,) = read(print_sent([Sent("10.0.0.1:80", 10**12, 1e300, 1e9)]))
    assert word == (Sent("10.0.0.1:80", 1_000_000, 1e9, 10.0),)


@given(st.binary(max_size=400), st.booleans())
def test_whatever_comes_is_words_or_a_word_error(data: bytes, greeted: bool) -> None:
    words = Words()
    words.give(print_hello(Hello(b"p" * 16, b"e" * 16)) * greeted + data)
    with suppress(WordError):
        while (word := words.take()) is not None:
            for each in () if isinstance(word, Hello) else word:
                number = each.age if isinstance(each, Sent) else each.trust
                assert math.isfinite(each.tokens + number)
                assert min(each.tokens, number) >= 0


@given(st.binary(max_size=200))
def test_a_sent_frame_of_any_body_is_bounded(body: bytes) -> None:
    try:
        found = read(struct.pack(">HB", len(body), 2) + body)
    except WordError:
        return
    assert all(isinstance(word, tuple) and len(word) <= ENTRIES for word in found)


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack(">BIff", 4, 1, math.nan, 0.0) + b"a:80",
        struct.pack(">BIff", 4, 1, math.inf, 0.0) + b"a:80",
        struct.pack(">BIff", 4, 1, -1.0, 0.0) + b"a:80",
        struct.pack(">BIff", 4, 1, 1.0, -1.0) + b"a:80",
        struct.pack(">BIff", 4, 2**31, 1.0, 0.0) + b"a:80",
        struct.pack(">BIff", 200, 1, 1.0, 0.0) + b"a" * 200,
        struct.pack(">BIff", 0, 1, 1.0, 0.0),
        struct.pack(">BIff", 4, 1, 1.0, 0.0) + b"a:8",
        struct.pack(">BIff", 4, 1, 1.0, 0.0) + b"a:8\xff",
        (struct.pack(">BIff", 4, 1, 1.0, 0.0) + b"a:80") * (ENTRIES + 1),
    ],
)
def test_what_is_no_entry_ends_it(entry: bytes) -> None:
    with pytest.raises(WordError):
        read(struct.pack(">HB", len(entry), 2) + entry)


@pytest.mark.parametrize(
    "beginning",
    [
        struct.pack(">BBBIff", 4, 0, 0, 7, math.nan, 1.0) + b"a:80",
        struct.pack(">BBBIff", 4, 0, 0, 7, -1.0, 1.0) + b"a:80",
        struct.pack(">BBBIff", 4, 0, 0, 7, 1.0, 1.5) + b"a:80",
        struct.pack(">BBBIff", 4, 0, 0, 7, 1.0, math.inf) + b"a:80",
        struct.pack(">BBBIff", 0, 0, 0, 7, 1.0, 1.0),
        struct.pack(">BBBIff", 4, 0, 1, 7, 1.0, 1.0) + b"a:80abc",
        struct.pack(">BBBIff", 4, 4, 0, 7, 1.0, 1.0) + b"a:80ab\xffd",
        struct.pack(">BBBIff", 4, 33, 0, 7, 1.0, 1.0) + b"a:80" + b"s" * 33,
        struct.pack(">BBBIff", 4, 0, 65, 7, 1.0, 1.0) + b"a:80" + b"h" * 260,
        b"ab",
        (struct.pack(">BBBIff", 4, 0, 0, 7, 1.0, 1.0) + b"a:80") * 150,
    ],
)
def test_what_is_no_beginning_ends_it(beginning: bytes) -> None:
    with pytest.raises(WordError):
        read(struct.pack(">HB", len(beginning), 3) + beginning)


def test_a_frame_that_is_too_long_is_refused_before_it_is_there() -> None:
    words = Words()
    words.give(struct.pack(">HB", LONGEST + 1, 2))
    with pytest.raises(WordError, match="bytes"):
        words.take()


def test_a_later_kind_is_passed_over_and_another_version_is_named() -> None:
    hello = Hello(b"p" * 16, b"e" * 16, 2)
    later_kind = struct.pack(">HB", 3, 9) + b"new"
    assert read(later_kind * 2 + print_hello(hello)) == [(), (), hello], "each by itself, so that many hold nobody up"
    assert read(_longer(hello)) == [hello], "fields may be added behind"
    (old,) = read(_change(hello, 0, 1))
    assert old == replace(hello, begins=False), "one of before says nothing of beginnings"
    later = bytearray(print_hello(hello))
    later[3 + 11] = 2
    with pytest.raises(WordError, match="version 2, not 1"):
        read(bytes(later))
    with pytest.raises(WordError, match="no data plane"):
        read(struct.pack(">HB", 19, 1) + b"GET / HTTP/1.1\r\nHos")


def _longer(hello: Hello) -> bytes:
    return _change(hello, 4, 0)


def _change(hello: Hello, more: int, fewer: int) -> bytes:
    """Its bytes with so many more at the end, or fewer."""
    body = print_hello(hello)[3:]
    body = body[: len(body) - fewer] + b"more"[:more]
    return struct.pack(">HB", len(body), 1) + body


def count(company: Company, now: float) -> tuple[int, int, int]:
    heard = company.count(now)
    assert heard.begins
    return heard.processes, heard.envoys, heard.beside


def test_who_is_heard_counts_by_envoy_once_all_of_its_processes_are() -> None:
    def one(process: str, envoy: str, processes: int = 1) -> Hello:
        return Hello(process.encode() * 16, envoy.encode() * 16, processes)

    company = Company(one("a", "A", 2))
    assert count(company, 0.0) == (0, 0, 0)
    company.hear(one("b", "A", 2), 0.0)
    assert count(company, 0.0) == (1, 0, 1), "beside our own Envoy"
    company.hear(one("c", "C", 2), 0.0)
    assert count(company, 0.1) == (2, 0, 1), "one of two"
    company.hear(one("d", "C", 2), 0.1)
    company.hear(one("e", "E"), 0.5)
    assert count(company, 0.5) == (4, 2, 1)
    assert count(company, HEARD + 0.3) == (1, 1, 0)
    company.hear(replace(one("f", "F"), begins=False), HEARD + 0.3)
    assert not company.count(HEARD + 0.3).begins, "one of them does not tell how requests begin"
    company.forget(b"f" * 16)
    company.forget(b"e" * 16)
    assert count(company, HEARD + 0.3) == (0, 0, 0)
