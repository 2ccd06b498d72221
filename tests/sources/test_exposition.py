"""Exposition text: both formats as specified, and nothing that a server may print raises."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_metrics import exposition
from weighbridge_metrics.exposition import Sample, read

WANTED = frozenset({"queue", "queue_total", "vllm:running", "vllm:running_seconds_sum"})


def only(text: str | bytes) -> tuple[Sample, ...]:
    return read(text, frozenset({"queue"})).families.get("queue", ())


def test_only_whole_names_that_are_wanted_are_read() -> None:
    text = "queue 1\nqueue_total 2\nqueue_created 3\nqueued 4\nmy_queue 5\nvllm:running 6\n# HELP queue queue 7\n"
    page = read(text, WANTED)
    assert {name: [s.value for s in samples] for name, samples in page.families.items()} == {
        "queue": [1.0],
        "queue_total": [2.0],
        "vllm:running": [6.0],
    }
    assert page.broken == 0


def test_a_family_in_several_places_is_read_whole() -> None:
    text = 'queue{engine="0"} 1\nother 9\nqueue{engine="1"} 2'
    assert [(s.labels["engine"], s.value) for s in only(text)] == [("0", 1.0), ("1", 2.0)]


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ('queue{a="b"} 1', {"a": "b"}),
        ('queue{a="b",c="d"} 1', {"a": "b", "c": "d"}),
        ('queue{a="b",} 1', {"a": "b"}),
        ('queue { a = "b" , c = "d" } 1', {"a": "b", "c": "d"}),
        ("queue{} 1", {}),
        ('queue{a=""} 1', {"a": ""}),
        (
            r'queue{a="C:\\DIR\\",b="two\nlines",c="say \"hi\""} 1',
            {"a": "C:\\DIR\\", "b": "two\nlines", "c": 'say "hi"'},
        ),
        ('queue{a="} 9",b="x,y=z"} 1', {"a": "} 9", "b": "x,y=z"}),
        ('queue{a="# no exemplar"} 1', {"a": "# no exemplar"}),
        ('queue{a="größe 模型"} 1', {"a": "größe 模型"}),
        ('queue{"quoted.name"="b"} 1', {"quoted.name": "b"}),
        ('  \tqueue{a="b"}\t1  \r', {"a": "b"}),
    ],
)
def test_labels(line: str, labels: dict[str, str]) -> None:
    page = read(f"# TYPE queue gauge\n{line}\n", frozenset({"queue"}))
    assert page.families["queue"] == (Sample(labels, 1.0),)
    assert page.broken == 0
    assert read(f"# TYPE queue gauge\n{line}\n".encode(), frozenset({"queue"})) == page


@pytest.mark.parametrize(
    ("printed", "value"),
    [("1", 1.0), ("-0.5", -0.5), ("1e-05", 1e-5), ("8.128902e+06", 8128902.0), ("+Inf", math.inf), ("-Inf", -math.inf)],
)
def test_values(printed: str, value: float) -> None:
    assert [s.value for s in only(f"queue {printed}\n")] == [value]


def test_nan_is_handed_on_as_printed() -> None:
    (sample,) = only("queue NaN\n")
    assert math.isnan(sample.value)


def test_times_are_milliseconds_in_the_text_format_and_seconds_in_openmetrics() -> None:
    assert only("queue 1 1700000000500\n")[0].timestamp == 1_700_000_000.5
    assert only("queue 1 1700000000.5\n# EOF\n")[0].timestamp == 1_700_000_000.5
    assert only("queue 1\n# EOF")[0].timestamp is None


def test_exemplars_are_passed_over() -> None:
    text = 'queue{a="b"} 3 # {trace_id="x"} 0.67 1700000000.1\nqueue 4 5.5 # {} 1\n# EOF\n'
    assert only(text) == (Sample({"a": "b"}, 3.0), Sample({}, 4.0, 5.5))


@pytest.mark.parametrize(
    "line",
    [
        "queue ",
        "queue{",
        'queue{a="b" 1',
        'queue{a="b} 1',
        "queue{a=b} 1",
        'queue{a="b"}',
        'queue{a="b" c="d"} 1',
        'queue{a="b",a="c"} 1',
        "queue one",
        "queue 1_000",
        "queue 1 2 3",
        "queue 1 now",
        'queue{a="' + "x" * exposition.LINE_MAXIMUM + '"} 1',
    ],
)
def test_a_line_that_is_not_a_sample_is_counted_and_costs_only_itself(line: str) -> None:
    page = read(f"queue 1\n{line}\nqueue 2\n", frozenset({"queue"}))
    assert [s.value for s in page.families["queue"]] == [1.0, 2.0]
    assert page.broken == 1


def test_a_family_that_only_had_broken_lines_is_absent() -> None:
    page = read("queue x\n", frozenset({"queue"}))
    assert (page.families, page.broken) == ({}, 1)


def test_series_without_end_are_bounded() -> None:
    count = exposition.SERIES_MAXIMUM + 3
    page = read("queue 1\n" * count, frozenset({"queue"}))
    assert len(page.families["queue"]) == exposition.SERIES_MAXIMUM
    assert page.broken == 3


def test_nothing_wanted_finds_nothing() -> None:
    assert read("queue 1\n", frozenset()).families == {}


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_no_text_raises(text: str | bytes) -> None:
    read(text, WANTED)
    prefixed = b"queue" + text if isinstance(text, bytes) else "queue" + text
    read(prefixed, WANTED)


@settings(max_examples=50)
@given(
    st.frozensets(st.sampled_from(["a", "ab", "abc", "abd", "b", "ba", "bab", "x:y", "x:yz"]), min_size=1), st.data()
)
def test_names_that_begin_alike_are_kept_apart(wanted: frozenset[str], data: st.DataObject) -> None:
    printed = data.draw(
        st.lists(st.sampled_from(["a", "ab", "abc", "abd", "abcd", "b", "ba", "bab", "babe", "x:", "x:y", "x:yz"]))
    )
    text = "".join(f"{name} {i}\n" for i, name in enumerate(printed))
    expected = {n: [float(i) for i, name in enumerate(printed) if name == n] for n in wanted if n in printed}
    assert {name: [s.value for s in samples] for name, samples in read(text, wanted).families.items()} == expected


VALUES = st.one_of(st.floats(), st.integers(-(10**9), 10**9).map(float))
LABELS = st.dictionaries(
    st.sampled_from(["engine", "model_name", "le", "pod", "a1"]),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r"),
        max_size=12,
    ),
    max_size=4,
)
SERIES = st.lists(st.tuples(LABELS, VALUES, st.none() | st.integers(0, 2**41)), min_size=1, max_size=4)


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def show(families: dict[str, list[tuple[dict[str, str], float, int | None]]], *, openmetrics: bool) -> str:
    """The text of gauges, as the format's specification prints them."""
    lines = []
    for name, series in families.items():
        lines += [f"# HELP {name} Words.", f"# TYPE {name} gauge"]
        for labels, value, at in series:
            inside = ",".join(f'{key}="{escape(text)}"' for key, text in labels.items())
            number = "NaN" if math.isnan(value) else repr(value).replace("inf", "Inf").replace("-Inf", "-Inf")
            time = "" if at is None else f" {at / 1000}" if openmetrics else f" {at}"
            lines.append(f"{name}{{{inside}}} {number}{time}" if labels else f"{name} {number}{time}")
    return "\n".join([*lines, "# EOF"] if openmetrics else lines) + "\n"


def comparable(samples: Any) -> list[tuple[Any, ...]]:
    """NaN made equal to itself, times to the millisecond: the reference splits them into seconds and nanoseconds."""
    return [
        (
            dict(s.labels),
            "NaN" if math.isnan(s.value) else s.value,
            None if s.timestamp is None else round(float(s.timestamp), 3),
        )
        for s in samples
    ]


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["queue", "vllm:running", "other", "queue_max"]), SERIES, min_size=1))
def test_the_reference_parser_reads_the_same_from_the_text_format(families: Any) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = show(families, openmetrics=False)
    reference = {f.name: comparable(f.samples) for f in text_string_to_metric_families(text) if f.name in WANTED}
    page = read(text, WANTED)
    assert {name: comparable(samples) for name, samples in page.families.items()} == reference
    assert page.broken == 0


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["queue", "vllm:running", "other"]),
        st.tuples(LABELS, VALUES, st.none() | st.integers(0, 2**41)).map(lambda one: [one]),
        min_size=1,
    )
)
def test_the_reference_parser_reads_the_same_from_openmetrics(families: Any) -> None:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    text = show(families, openmetrics=True)
    reference = {f.name: comparable(f.samples) for f in text_string_to_metric_families(text) if f.name in WANTED}
    page = read(text, WANTED)
    assert {name: comparable(samples) for name, samples in page.families.items()} == reference
