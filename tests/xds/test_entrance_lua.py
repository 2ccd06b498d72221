"""The entrance's reading of JSON, run in LuaJIT as Envoy runs it, held to what Python's json says of the same bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from weighbridge_operator.xds.scripts import write_entrance

DEPTH = 100
ACTED_ON = ("model", "stream")
Outcome = tuple[str, Any]  # "ok" and what is asked for, or "refused" and why


@pytest.fixture(scope="module")
def lua() -> Any:
    runtime = LuaRuntime(encoding=None)
    runtime.execute(write_entrance().encode())
    return runtime


@pytest.fixture(scope="module")
def read(lua: Any) -> Callable[[bytes], Outcome]:
    function = lua.globals()[b"read_request"]

    def ask(text: bytes) -> Outcome:
        answer = function(text)
        if isinstance(answer, tuple):
            return "refused", answer[1].decode()
        return "ok", {key.decode(): value for key, value in answer.items()}

    return ask


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def measure_depth(value: Any) -> int:
    """How deep lists and objects are nested; 0 for a plain value."""
    deepest, open_values = 0, [(value, 1)]
    while open_values:
        one, depth = open_values.pop()
        if isinstance(one, dict | list):
            deepest = max(deepest, depth)
            open_values += [(child, depth + 1) for child in (one.values() if isinstance(one, dict) else one)]
    return deepest


def judge(text: bytes) -> list[tuple[str, Any]] | None:
    """The members of the outermost object as a strict reader sees them, duplicates too; None where it refuses."""
    objects: list[list[tuple[str, Any]]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        objects.append(pairs)
        # Values of equal keys are kept apart, or depth could hide in one that is overwritten.
        return {f"{key} {number}": value for number, (key, value) in enumerate(pairs)}

    try:
        value = json.loads(text.decode("utf-8"), parse_constant=refuse_constant, object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or measure_depth(value) > DEPTH:
        return None
    return objects[-1]


def find_fault(text: str) -> str | None:
    """The first key of the outermost object that the gateway refuses, though JSON allows it."""
    decoder, seen = json.JSONDecoder(), set[str]()
    at = skip(text, text.index("{") + 1)
    while text[at] != "}":
        key, end = decoder.raw_decode(text, at)
        if "\\" in text[at:end]:
            return "escaped"
        if key in seen:
            return "twice"
        if key not in ACTED_ON and key.replace("\u017f", "s").lower() in ACTED_ON:
            return "alias"
        seen.add(key)
        _, at = decoder.raw_decode(text, skip(text, text.index(":", end) + 1))
        at = skip(text, at)
        at = skip(text, at + 1) if text[at] == "," else at
    return None


def skip(text: str, at: int) -> int:
    """The next place that is no space."""
    while text[at] in " \t\r\n":
        at += 1
    return at


def check(read: Callable[[bytes], Outcome], text: bytes) -> None:
    """The one property: accepted exactly when it should be, and `model` and `stream` found where they stand."""
    outcome, told = read(text)
    members = judge(text)
    if members is None:
        assert (outcome, told) in (
            ("refused", "invalid"),
            ("refused", "deep"),
            ("refused", "twice"),
            ("refused", "escaped"),
            ("refused", "alias"),
        )
        return
    fault = find_fault(text.decode())
    if fault is not None:
        assert (outcome, told) == ("refused", fault)
        return
    assert outcome == "ok", told
    found = dict(members)
    assert told.get("names_model", False) == ("model" in found)
    model = found.get("model")
    assert ("first" in told) == isinstance(model, str)
    if isinstance(model, str):
        assert json.loads(text[told["first"] - 1 : told["last"]]) == model
    assert told["stream"] == (found.get("stream") is True)
    assert told.get("odd_stream", False) == ("stream" in found and not isinstance(found["stream"], bool | None))


def near(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON values with interesting keys, shallow."""
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))


KEYS = st.sampled_from(
    ["model", "stream", "Model", "\u017ftream", "messages", "a", "", "mödel", "mo\ndel", 'q"', "\\", "/", "\u007f", "𝄞"]
)
VALUES = near(KEYS | st.text(max_size=5))
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An object as some client might write it: escapes or not, spaces or not."""
    spaces = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", "\r\n : ")]))
    text = json.dumps(draw(OBJECTS), ensure_ascii=draw(st.booleans()), separators=spaces)
    return (draw(st.sampled_from(["", " ", "\n\t\r "])) + text + draw(st.sampled_from(["", "\n", " "]))).encode()


@settings(max_examples=150)
@given(text=bodies())
def test_what_clients_write_is_read_as_python_reads_it(read: Callable[[bytes], Outcome], text: bytes) -> None:
    check(read, text)


@settings(max_examples=300)
@given(text=bodies(), data=st.data())
def test_damaged_bodies_are_judged_as_python_judges_them(
    read: Callable[[bytes], Outcome], text: bytes, data: st.DataObject
) -> None:
    damage = st.sampled_from(
        [bytes([b]) for b in b'{}[]",:\\/tfn0-+.eE1u \x00\x1f\x7f\x80\xc3\xff'] + [b"", b"NaN", b"\xed\xa0\x80"]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(damage) + text[at + data.draw(st.integers(0, 2)) :]
    check(read, text)


PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"model"',
    b'"stream"',
    b'"a"',
    b'"\\u0061"',
    b"1",
    b"-0.5e+3",
    b"01",
    b"true",
]
PIECES += [
    b"null",
    b" ",
    b'"\\ud800"',
    b'"\\q"',
    b'"\x1f"',
    b"1.",
    b"-",
    b'"',
    b"\xef\xbb\xbf",
    b"\xc3\xb6",
    b"Infinity",
]


@settings(max_examples=300)
@given(text=st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
def test_heaps_of_tokens_are_judged_as_python_judges_them(read: Callable[[bytes], Outcome], text: bytes) -> None:
    check(read, text)
    check(read, b'{"model":' + text + b"}")


@settings(max_examples=200)
@given(
    inner=st.binary(max_size=12) | st.lists(st.integers(0xC0, 0xFF) | st.integers(0x80, 0xBF), max_size=6).map(bytes)
)
def test_strings_are_utf8_or_refused(read: Callable[[bytes], Outcome], inner: bytes) -> None:
    check(read, b'{"a":"' + inner + b'","model":"m"}')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"model":"m","model":"n"}', "twice"),
        (b'{"a":1,"b":2,"a":3}', "twice"),
        (b'{"model":"m","MODEL":"n"}', "alias"),
        (b'{"mOdel":"n","model":"m"}', "alias"),
        (b'{"Model":"n"}', "alias"),
        (b'{"MOD\\u0045L":"n"}', "escaped"),
        ('{"model":"m","\u017ftream":true}'.encode(), "alias"),
        (b'{"mod\\u0065l":"m"}', "escaped"),
        (b'{"a\\/b":1}', "escaped"),
        (b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}", "deep"),
        (b'{"a":' + b'{"b":' * 200 + b"1" + b"}" * 201, "deep"),
    ],
)
def test_what_json_allows_and_the_gateway_does_not(read: Callable[[bytes], Outcome], text: bytes, why: str) -> None:
    for _ in range(2):  # the second time the keys are known
        assert read(text) == ("refused", why)


@pytest.mark.parametrize(
    "text",
    [
        b'{"messages":[{"model":"inner","model":"twice"}],"model":"m"}',
        b'{"a":{"b\\u0061":1},"model":"m"}',
        b'{"a":' + b"[" * (DEPTH - 1) + b"]" * (DEPTH - 1) + b',"model":"m"}',
        b'{"a":"\\"model\\":\\"x\\"","model":"m"}',
    ],
)
def test_what_lies_deeper_does_not_matter(read: Callable[[bytes], Outcome], text: bytes) -> None:
    outcome, told = read(text)
    assert outcome == "ok"
    assert text[told["first"] - 1 : told["last"]] == b'"m"'


def test_keys_that_callers_invent_do_not_pile_up(lua: Any, read: Callable[[bytes], Outcome]) -> None:
    def used() -> float:  # bytes
        read(b"{}")
        lua.execute(b"collectgarbage() collectgarbage()")
        return float(lua.eval(b"collectgarbage('count')")) * 1024

    before = used()
    read(b'{"%s":1}' % (b"k" * (8 << 20)))
    assert used() < before + (1 << 20)
    for number in range(200):
        read(json.dumps({f"{number} {key} ".ljust(60): 1 for key in range(100)}).encode())
    assert used() < before + (1 << 20)
    assert read(b'{"a":1,"a":2}') == ("refused", "twice")


LARGE = {
    "one long string": b'{"model":"m","x":"' + b"a" * (16 << 20) + b'"}',
    "escapes": b'{"model":"m","x":"' + b'\\n\\"' * (1 << 18) + b'"}',
    "unicode escapes": b'{"model":"m","x":"' + b"\\u00e4" * (1 << 18) + b'"}',
    "other scripts": b'{"model":"m","x":"' + "ü漢𝄞".encode() * (1 << 17) + b'"}',
    "a million numbers": b'{"model":"m","x":[' + b"1," * 1_000_000 + b"1]}",
    "many strings": b'{"model":"m","x":[' + b'"ab",' * 200_000 + b"1]}",
    "many objects": b'{"model":"m","x":[' + b'{"role":"user","content":"hi\\n"},' * 50_000 + b"1]}",
    "spaces": b'{"model":"m",' + b" " * (16 << 20) + b'"x":1}',
    "control characters": b'{"model":"m",\n"x":["' + b'a",\n"' * 200_000 + b'"]}',
    "deep and wide": b'{"model":"m","x":[' + (b"[" * 90 + b"]" * 90 + b",") * 5_000 + b"1]}",
    "many keys": json.dumps({f"k{number}": number for number in range(50_000)}).encode(),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_bodies_cost_no_more_than_a_few_times_what_python_takes(
    read: Callable[[bytes], Outcome], name: str
) -> None:
    text = LARGE[name]
    theirs, ours = _time(json.loads, text), _time(read, text)
    # Python passes over plain text by memchr, hence the floor of 30 ns a byte.
    assert ours <= max(10 * theirs, len(text) * 30e-9), f"{ours * 1000:.0f} ms, json.loads {theirs * 1000:.0f} ms"


def _time(act: Callable[[bytes], object], text: bytes) -> float:
    began = time.process_time()
    act(text)
    return time.process_time() - began
