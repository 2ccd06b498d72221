"""How many prompts a node has not read, by its own counters, and how long those are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.choosing import Scene, member
from weighbridge_dataplane.facts import Asked, Counts, Sample
from weighbridge_dataplane.readings import find_table, read_sample
from weighbridge_dataplane.unread import Unread
from weighbridge_simulator.engine import Job
from weighbridge_simulator.node import Node, NodeSpec
from weighbridge_simulator.pages import EngineKind


def page(at: float, there: int, first: int, ended: int, waiting: int = 0) -> Sample:
    return Sample(at, running=there - waiting, waiting=waiting, first_tokens=first, ended=ended)


def test_who_has_no_first_token_is_unread_and_the_last_ones_sent_are_those() -> None:
    unread = Unread()
    unread.learn(page(0, 0, 50, 50))
    for tokens in (100.0, 4000.0, 200.0):
        unread.send(tokens)
    unread.learn(page(1, 3, 51, 50))
    assert unread.requests == 2
    assert unread.measure(1.0, 500.0) == 4200 - 2000, "the first of them is half read"
    unread.learn(page(2, 3, 53, 50))
    assert unread.measure(1.0, 500.0) == 0


def test_what_others_sent_counts_as_usual_prompts() -> None:
    unread = Unread()
    unread.learn(page(0, 0, 0, 0))
    unread.send(100.0)
    unread.learn(page(1, 4, 0, 0))
    assert unread.measure(0.25, 600.0) == 100 + 3 * 600 - 50


@pytest.mark.parametrize(("first", "ended"), [(9, 0), (0, 9)])
def test_requests_that_were_given_up_are_forgotten(first: int, ended: int) -> None:
    """Engines count those as ended or not: what that leaves behind is gone within two minutes."""
    unread = Unread()
    unread.learn(page(0, 0, 20, 20))
    for second in range(1, 140):
        unread.learn(page(second, 2, 20 + first + 2, 20 + ended))
    assert unread.requests == 0


def test_an_engine_that_begins_anew_is_counted_anew() -> None:
    unread = Unread()
    unread.learn(page(0, 0, 500, 500))
    unread.learn(page(1, 0, 0, 0))
    unread.learn(page(2, 3, 1, 0))
    assert unread.requests == 2


def test_an_engine_that_says_nothing_of_it_is_unknown() -> None:
    unread = Unread()
    assert unread.learn(Sample(0, running=3, waiting=0)) is None
    assert unread.measure(1.0, 500.0) is None


def test_a_node_reads_for_half_of_the_time_in_which_it_began_or_ended() -> None:
    unread = Unread()
    read = [unread.learn(page(at, there, at, at)) for at, there in enumerate((0, 1, 2, 1, 0, 0))]
    assert read == [0, 0.5, 1, 1, 0.5, 0]
    assert unread.learn(page(6, 3, 6, 6, waiting=3)) == 0, "what waits for room is not read"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.integers(0, 99), st.integers(0, 99)), min_size=1))
def test_it_is_never_fewer_than_wait_nor_more_than_are_there(pages: list[tuple[int, int, int, int]]) -> None:
    unread = Unread()
    for second, (running, waiting, first, ended) in enumerate(pages):
        unread.send(300.0)
        unread.learn(page(second, running + waiting, first, ended, waiting))
        assert unread.requests is not None
        assert waiting <= unread.requests <= running + waiting
        tokens = unread.measure(0.5, 300.0)
        assert tokens is not None
        assert 0 <= tokens <= 300 * unread.requests


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_engines_pages_tell_it(engine: EngineKind) -> None:
    node = Node(NodeSpec(engine=engine), 0.0)
    for _ in range(3):
        node.submit(Job(2000, 50), 0.0)
    node.advance(node.engine.next_event())
    table = find_table(engine)
    assert table is not None
    sample = read_sample(table, [node.page(1.0).encode()], {}, 1.0)
    assert sample is not None
    assert (sample.running, sample.first_tokens, sample.ended) == (3, 1, 0)


def test_a_prompt_that_another_gateway_sent_turns_the_next_one_away() -> None:
    """Room is the same, and ours are none: only the node's own counters tell of what it has to read."""
    scene = Scene("ab", envoys=2)
    told = {"running": 2, "first_tokens": 2, "ended": 0, "kv": 0.2}
    for second in range(1, 30):
        told_now = {**told, "first_tokens": 2 + second, "ended": second, "prompt_tokens": 50 * second}
        scene.step(dict.fromkeys("ab", told_now), dict.fromkeys("ab", Counts(1, 0, True)))
    now = {**told, "first_tokens": 31, "ended": 29, "prompt_tokens": 1450}
    scene.step({"a": {**now, "running": 5}, "b": now})
    assert scene.name(1, Asked(2000)) == {"b": 1}


def read_all(scene: Scene, names: str, *silent: str, times: int = 60) -> None:
    """Nodes that read for some of the time, and say so; of the silent ones no page comes."""
    for _ in range(times):
        told = {"running": 1, "kv": 0.02, "first_tokens": int(scene.now), "ended": int(scene.now)}
        pages = {name: {**told, "prompt_tokens": scene.prompts[name] / 20} for name in names}
        scene.step({**pages, **dict.fromkeys(silent)})


def test_where_an_engine_does_not_say_what_it_has_not_read_nodes_are_compared_by_fill_alone() -> None:
    scene = Scene("abcd")
    scene.chooser.tell([replace(member(name), engine="tgi" if name in "cd" else "vllm") for name in "abcd"], 1)
    read_all(scene, "abcd")
    scene.name(40, Asked(4000))
    assert {one.backlog for one in scene.choose(Asked(4000)).judged} == {0.0}
    assert max(scene.name(400, Asked(4000)).values()) <= 110


def test_a_node_whose_page_cannot_be_used_is_no_better_for_it() -> None:
    scene = Scene("abc")
    read_all(scene, "ab", "c")
    judged = {one.address[0]: one for one in scene.choose(Asked(2000)).judged}
    assert judged["c"].by_count
    assert judged["c"].backlog >= 0.9 * min(judged["a"].backlog, judged["b"].backlog) > 0
