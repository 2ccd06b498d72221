"""Plain values mean what they mean to kubectl, places are kept, and nothing in a file can make the reader grow."""

from __future__ import annotations

import pytest

from weighbridge_operator.sources.documents import MOST_BYTES, Mark, read_documents, resolve_plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", True),
        ("No", False),
        ("~", None),
        ("", None),
        ("8000", 8000),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
        ("1.5", 1.5),
        (".5e3", 500.0),
        (".inf", float("inf")),
        ("2025-09-01", "2025-09-01"),
        ("12:30", "12:30"),
        ("1.2.3", "1.2.3"),
        ("089", 89.0),
        ("9" * 5000, "9" * 5000),
        ("y", "y"),
    ],
)
def test_a_plain_scalar_means_what_it_means_to_kubectl(text: str, value: object) -> None:
    assert resolve_plain(text) == value
    assert type(resolve_plain(text)) is type(value)


def test_places_are_counted_through_the_whole_file() -> None:
    first, second = read_documents(b"# note\n---\na: 1\n---\nlist:\n- x\n- {deep: [1, 2]}\n")
    assert first.locate(("a",)) == Mark(3, 1)
    assert second.locate(("list",)) == Mark(5, 1)
    assert second.locate(("list", 1, "deep")) == Mark(7, 4)
    assert second.locate(("list", 1, "deep", 1)) == Mark(7, 14)
    assert second.locate(("list", 1, "missing")) == Mark(7, 3)


def test_quotes_make_text() -> None:
    (document,) = read_documents(b"a: '1'\nb: \"on\"\nc: !!str 5\nd: |\n  1\n")
    assert document.value == {"a": "1", "b": "on", "c": "5", "d": "1\n"}
    assert not document.flaws


def test_aliases_and_merges_are_written_out() -> None:
    text = b"base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: {b: 4, <<: [*base]}\nthree: *base\n"
    (document,) = read_documents(text)
    assert document.value == {
        "base": {"a": 1, "b": 2},
        "one": {"a": 1, "b": 3},
        "two": {"a": 1, "b": 4},
        "three": {"a": 1, "b": 2},
    }


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"# only a comment\n", b"---\n---\n", b"\xef\xbb\xbf", b"--- # nothing\n...\n", b"---\nnull\n"],
)
def test_nothing_is_no_document(data: bytes) -> None:
    assert read_documents(data) == ()


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter() -> None:
    first, second = read_documents(b"\xef\xbb\xbfa: 1\r\n---\r\nb: 2\r\n")
    assert (first.value, second.value) == ({"a": 1}, {"b": 2})
    assert second.locate(("b",)) == Mark(3, 1)


def test_dots_end_a_document() -> None:
    assert [document.value for document in read_documents(b"a: 1\n...\n---\nb: 2\n...\n")] == [{"a": 1}, {"b": 2}]


def test_dashes_within_a_text_divide_nothing() -> None:
    (document,) = read_documents(b"a: |\n  ---\n  x\nb: '\n  ---'\n---x: 1\n")
    assert isinstance(document.value, dict)
    assert document.value["a"] == "---\nx\n"
    assert document.value["---x"] == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"x" * (MOST_BYTES + 1), "is larger than 1 MiB"),
        (b"---\n" * 10_001, "more than 10000 documents"),
        (b"a: " + b"[" * 5000, "nested"),
        (b"a: " + b"{a: " * 5000, "nested"),
        (b"- " * 5000, "nested"),
        (b"a: [" + b"1," * 60_000 + b"]", "larger than 50000 values"),
        (b"a: &a [*a]", "repeats what is not there"),
    ],
)
def test_what_would_grow_is_refused(data: bytes, words: str) -> None:
    flaws = [flaw for document in read_documents(data) for flaw in document.flaws]
    assert len(flaws) == 1
    assert words in flaws[0].message


def test_a_key_made_of_aliases_does_not_grow() -> None:
    (document,) = read_documents(b"a: &a " + b"x" * 4096 + b"\n? [" + b",".join([b"*a"] * 20_000) + b"]\n: 1\n")
    assert isinstance(document.value, dict)
    assert max(len(key) for key in document.value) < 100
    assert "a key that is not a text" in document.flaws[0].message
