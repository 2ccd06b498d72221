"""Whom the choice names, whom never, and when it is silent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.choosing import CHAT, Scene, member
from weighbridge_dataplane.affinity import Affinity
from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import DEPTHS, Asked, Beginning, Counts, Sample


def test_the_emptiest_node_is_named_and_what_was_sent_there_counts_at_once() -> None:
    scene = Scene()
    scene.step(
        {"a": {"kv": 0.8, "running": 40}, "b": {"kv": 0.1, "running": 5}, "c": {"kv": 0.5, "running": 25}}, times=8
    )
    assert scene.name() == {"b": 1}
    more = scene.name(200)
    assert more["b"] > more["c"] > more["a"]
    assert more["c"] > 0


def test_nodes_alike_share_evenly() -> None:
    scene = Scene()
    scene.step({}, times=8)
    assert max(scene.name(300).values()) <= 101


def test_room_is_what_a_request_fills() -> None:
    scene = Scene("ab", a=4, b=1)
    alike = {"kv": 0.2, "prompt_tokens": None}
    scene.step({"a": {**alike, "running": 16}, "b": {**alike, "running": 4}}, times=40)
    shares = scene.name(100, Asked(4))
    assert 75 <= shares["a"] <= 85


def test_it_is_silent_until_it_knows_the_nodes_and_when_it_no_longer_does() -> None:
    scene = Scene()
    assert Chooser(Random(1).random).choose(CHAT, 0.0).silence == "unknown"
    assert scene.choose().silence == "stale"
    scene.step({"a": None, "b": None, "c": None})
    assert scene.choose().silence == "few"
    scene.step({}, times=2)
    assert scene.choose().silence is None
    scene.now += 2
    assert scene.choose().silence == "stale"


def test_once_silent_it_speaks_again_after_ten_good_seconds() -> None:
    scene = Scene()
    scene.step({}, times=4)
    assert scene.choose().silence is None
    scene.step({"a": None, "b": None}, times=8)
    assert scene.choose().silence == "few"
    scene.step({}, times=36)
    assert scene.choose().silence == "few"
    scene.step({}, times=8)
    assert scene.choose().silence is None


@pytest.mark.parametrize("out", [Counts(0, 0, False), None])
def test_a_node_that_envoy_keeps_out_is_never_named(out: Counts | None) -> None:
    scene = Scene("abcd")
    scene.step({}, times=4)
    counts = {f"{name}:80": Counts(0, 0, True) for name in "bcd"} | ({} if out is None else {"a:80": out})
    if out is None:
        scene.chooser.tell([member(name) for name in "bcd"], 1)
    scene.chooser.count(counts, scene.now)
    assert scene.name(90)["a"] == 0


def test_a_node_that_fails_fast_draws_nobody_and_comes_back() -> None:
    scene = Scene("abcd")
    scene.step({}, times=4)
    scene.step({}, {"a": Counts(0, 5, True, 5)})
    assert scene.name(40)["a"] == 0
    scene.step({}, {"a": Counts(0, 5, True, 5)}, times=39)
    assert scene.name(40)["a"] == 0
    scene.step({}, {"a": Counts(0, 5, True, 5)}, times=4)
    assert scene.name(40)["a"] > 0
    scene.step({}, {"a": Counts(0, 9, True, 9)})
    scene.step({}, {"a": Counts(0, 9, True, 9)}, times=60)
    assert scene.name(40)["a"] == 0, "the second time it is left out for longer"


def test_a_few_failures_among_many_answers_leave_nobody_out() -> None:
    scene = Scene()
    scene.step({}, {name: Counts(0, 0, True, 0) for name in "abc"}, times=4)
    scene.step({}, {"a": Counts(0, 1, True, 100)})
    assert scene.name(30)["a"] > 0


def test_a_node_that_says_it_is_idle_while_we_hold_requests_there_is_judged_by_our_count() -> None:
    scene = Scene()
    busy = {"kv": 0.3, "running": 10}
    idle = {"kv": 0.0, "running": 0, "prompt_tokens": 0}
    counts = {name: Counts(10, 0, True) for name in "abc"}
    scene.step({"a": busy, "b": busy, "c": busy}, counts, times=40)
    scene.step({"a": idle, "b": busy, "c": busy}, counts, times=4)
    shares = scene.name(300)
    assert shares["a"] < 120, shares
    assert any(judged.by_count for judged in scene.choose().judged)


def test_a_slow_node_gets_less() -> None:
    scene = Scene("ab")
    for _ in range(60):
        scene.now += 0.25
        for name, pace in (("a", 100.0), ("b", 20.0)):
            scene.prompts[name] += pace
            tokens = {"prompt_tokens": scene.prompts[name], "generated_tokens": scene.prompts[name]}
            scene.chooser.read(f"{name}:80", Sample(scene.now, kv=0.3, waiting=0, running=10, **tokens), scene.now)
        scene.chooser.count({f"{n}:80": Counts(10, 0, True) for n in "ab"}, scene.now)
    shares = scene.name(40)
    assert shares["a"] > shares["b"]


def test_long_prompts_go_where_fewer_wait_to_be_read() -> None:
    scene = Scene("ab")
    scene.step({"a": {"prompt_tokens": 0.0}}, times=2)
    scene.step({name: {"running": 10} for name in "ab"}, times=20)
    first = scene.choose(Asked(40_000)).member
    assert first is not None
    assert scene.name(3)[first.address[0]] == 0


def test_a_conversation_stays_where_its_beginning_was_read_unless_that_node_is_full() -> None:
    scene = Scene()
    scene.step({}, times=20)
    chain = tuple(f"{n:08x}" for n in range(8))
    first = scene.choose(Asked(8192, None, chain)).member
    assert first is not None
    scene.step({}, times=8)
    longer = (*chain, "ffffffff")
    assert scene.name(1, Asked(9216, None, longer)) == {first.address[0]: 1}
    scene.step({first.address[0]: {"kv": 0.95, "running": 50, "waiting": 20}}, times=8)
    assert scene.name(1, Asked(9216, None, longer))[first.address[0]] == 0


def test_many_nodes_are_drawn_from_by_their_room() -> None:
    names = [f"n{number}" for number in range(200)]
    chooser = Chooser(Random(1).random)
    chooser.tell([member(name, 3.0 if number < 100 else 1.0) for number, name in enumerate(names)], 1)
    for moment in range(1, 6):
        now = moment / 4
        for name in names:
            chooser.read(f"{name}:80", Sample(now, 0.1, 0, 1, 10.0 * moment), now)
        chooser.count({f"{name}:80": Counts(1, 0, True) for name in names}, now)
    named = [chooser.choose(CHAT, 1.3).member for _ in range(400)]
    large = sum(1 for one in named if one is not None and one.capacity == 3.0)
    assert 270 <= large <= 400
    assert len(chooser.choose(CHAT, 1.3).judged) <= 16


numbers = st.one_of(st.none(), st.floats(), st.floats(0, 100), st.just(math.nan), st.just(-1.0))
pages = st.builds(dict, kv=numbers, waiting=numbers, running=numbers, prompt_tokens=numbers, generated_tokens=numbers)
counted = st.builds(Counts, st.integers(0, 50), st.integers(0, 9), st.booleans())
events = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from("abcd"), st.one_of(st.none(), pages)),
        st.tuples(st.just("count"), st.sampled_from("abcd"), counted),
        st.tuples(st.just("tell"), st.sampled_from(["ab", "abc", "abcd", ""]), st.none()),
        st.tuples(st.just("choose"), st.integers(0, 10**6), st.none()),
        st.tuples(st.just("wait"), st.floats(0, 20), st.none()),
    ),
    max_size=80,
)  # fmt: skip


@given(events)
def test_whatever_comes_only_open_members_are_named_and_each_judgement_adds_up(
    moves: Iterable[tuple[str, Any, Any]],
) -> None:
    chooser, now, there, counts = Chooser(Random(1).random), 0.0, "abcd", dict[str, Counts]()
    chooser.tell([member(name) for name in there], 1)
    for what, which, value in moves:
        match what:
            case "read":
                chooser.read(f"{which}:80", None if value is None else Sample(now, **value), now)
            case "count":
                counts[f"{which}:80"] = value
                chooser.count(counts, now)
            case "tell":
                there = which
                chooser.tell([member(name) for name in there], 1)
            case "wait":
                now += which
            case _:
                choice = chooser.choose(Asked(which), now)
                assert (choice.member is None) == (choice.silence is not None)
                if choice.member is not None:
                    assert choice.member.address[0] in there
                    assert counts[choice.member.address].healthy
                for judged in choice.judged:
                    assert math.isfinite(judged.load)
                    assert judged.load == pytest.approx(judged.fill**2 + judged.backlog, abs=1e-6)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(1, 40)), max_size=60))
def test_the_memory_of_beginnings_is_bounded_and_forgets_with_its_node(sent: list[tuple[str, int, int]]) -> None:
    memory = Affinity(blocks=50, sessions=10)
    for node, start, length in sent:
        chain = tuple(f"{start}-{number}" for number in range(length))
        memory.remember(Beginning(node, chain, f"s{start}", 0.0))
        assert memory.count(node, chain) == length
        assert memory.find(chain, None).tokens.get(node, 0) == (DEPTHS[length] if length > 3 else 0)
    memory.forget("abc")
    assert not any(memory.find([f"{start}-0"], f"s{start}", 500.0).tokens for start in range(31))


def test_a_session_s_node_holds_what_it_wrote_as_well() -> None:
    memory = Affinity()
    memory.remember(Beginning("a", (), "s", 1000.0))
    assert memory.find((), "s", 1000.0).tokens == {"a": 1000}
    assert memory.find((), "s", 1600.0).tokens == {"a": 1300}, "of what was added half is the answer"
    assert memory.find((), "s", 400.0).tokens == {"a": 1000}, "another prompt, which cannot hit more than it has"


def test_of_nodes_that_are_alike_the_one_that_reads_faster_gets_a_long_prompt() -> None:
    scene = Scene("ab")
    for second in range(1, 60):
        # Every other page finds a request that has no first token yet.
        found = {"running": second % 2, "first_tokens": second // 2, "ended": second // 2}
        scene.step({"a": found | {"prompt_tokens": 250.0 * second}, "b": found})
    told = {one.address[0]: one.backlog for one in scene.choose(Asked(12_000)).judged}
    assert told["a"] > 2 * told["b"]


def test_a_node_that_is_not_believed_reads_no_faster_than_the_others() -> None:
    scene = Scene("abc")
    for second in range(1, 40):
        says = {"running": 0, "prompt_tokens": 100_000.0 * second}
        scene.step({"a": says}, {"a": Counts(8 if second > 20 else 0, 0, True)})
    told = {one.address[0]: one for one in scene.choose(Asked(12_000)).judged}
    assert told["a"].by_count
    assert told["a"].backlog == pytest.approx(told["b"].backlog)


def test_a_node_that_queues_is_full_whatever_is_left_of_its_cache() -> None:
    """What is first in its queue needs more than is free, and holds up whoever comes after it."""
    scene = Scene("ab")
    scene.step({"a": {"kv": 0.7, "running": 40, "waiting": 1}, "b": {"kv": 0.9, "running": 40}}, times=8)
    assert scene.name() == {"b": 1}
