"""Who fails, lies, begins anew or counts otherwise than was thought: what the choice makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.choosing import Scene
from weighbridge_dataplane.facts import Asked, Counts


def test_a_failure_now_and_then_leaves_nobody_out() -> None:
    """One may be the request's own; only a node that goes on failing is the node."""
    scene = Scene("abcd")
    scene.step({}, times=4)
    for failures in range(1, 6):
        scene.step({}, {"a": Counts(0, failures, True, 60 * failures)}, times=60)
        assert scene.name(40)["a"] > 0


def test_where_most_nodes_fail_the_weights_decide() -> None:
    scene = Scene("abcd")
    scene.step({}, times=4)
    scene.step({}, {name: Counts(0, 5, True, 5) for name in "abc"})
    assert scene.choose().silence == "few"


def test_a_node_that_envoy_no_longer_counts_is_not_named() -> None:
    scene = Scene("abcd")
    scene.step({}, times=4)
    scene.chooser.count({f"{name}:80": Counts(0, 0, True) for name in "bcd"}, scene.now)
    assert scene.name(60)["a"] == 0


def test_first_pages_that_come_one_by_one_make_no_silence() -> None:
    scene = Scene("abcd")
    scene.step({"b": None, "c": None, "d": None})
    assert scene.choose().silence == "few"
    scene.step({})
    assert scene.choose().silence is None


@pytest.mark.parametrize("bytes_of_a_token", [2.0, 8.0])
def test_what_a_token_is_in_bytes_is_learned_from_what_nodes_read(bytes_of_a_token: float) -> None:
    """A pool that reads less of each body than was thought would else seem to be behind for ever."""
    scene, size = Scene("ab"), 4_000
    read = dict.fromkeys("ab", 0.0)
    judged: list[float] = []
    for _ in range(800):
        counts = {name: Counts(6, 0, True) for name in "ab"}
        scene.step({name: {"running": 6, "kv": 0.3, "prompt_tokens": 1e6 + read[name]} for name in "ab"}, counts)
        for _ in range(2):
            choice = scene.choose(Asked(size))
            assert choice.member is not None
            read[choice.member.address[0]] += size / bytes_of_a_token
            judged.append(max(one.backlog for one in choice.judged))
    assert max(judged[-100:]) < 1.0


def test_who_begins_anew_has_forgotten_the_beginnings() -> None:
    scene = Scene("ab")
    scene.step({}, times=20)
    chain = tuple(f"{n:08x}" for n in range(8))
    first = scene.choose(Asked(8192, None, chain)).member
    assert first is not None
    scene.step({}, times=2)
    assert max(one.hit for one in scene.choose(Asked(8192, None, chain)).judged) > 0
    for name in "ab":
        scene.prompts[name] = 0.0
    scene.step({name: {"prompt_tokens": 0.0} for name in "ab"})
    assert all(one.hit == 0 for one in scene.choose(Asked(8192, None, chain)).judged)


claims = st.builds(
    dict,
    kv=st.floats(0, 1),
    waiting=st.integers(0, 50),
    running=st.integers(0, 50),
    prompt_tokens=st.floats(0, 1e9),
    generated_tokens=st.floats(0, 1e9),
)


@given(claims, st.integers(0, 60), st.integers(0, 5))
def test_no_page_makes_a_node_look_better_than_our_own_count(claim: Mapping[str, Any], own: int, sent: int) -> None:
    """Whatever it says, it is judged by at least 0.9 of what we have there, in the fill of a usual request."""
    scene = Scene("abcd")
    usual = {"kv": 0.3, "running": 15}
    counts = {name: Counts(own if name == "a" else 15, 0, True) for name in "abcd"}
    scene.step(dict.fromkeys("bcd", usual) | {"a": claim}, counts, times=6)
    scene.name(sent)
    judged = {one.address[0]: one for one in scene.choose().judged}
    if "a" in judged:
        g = scene.chooser._nodes["a:80"].g
        assert judged["a"].fill >= 0.9 * own * g - 1e-9
        assert judged["a"].load >= judged["a"].fill ** 2 - 1e-9


@pytest.mark.parametrize("said", [{"running": 1.8446744073709552e19}, {"waiting": 1e300}, {"prompt_tokens": 1e308}])
def test_one_absurd_number_changes_nothing_for_long(said: Mapping[str, float]) -> None:
    """A gauge that fell below nothing and wrapped: it spoilt what a request fills of every node for a quarter hour."""
    heard, plain = Scene(), Scene()
    usual = {"kv": 0.3, "running": 20}
    for scene, told in ((heard, said), (plain, {})):
        scene.step(dict.fromkeys("abc", usual), times=40)
        scene.step({"a": {**usual, **told}, "b": usual, "c": usual})
        scene.step(dict.fromkeys("abc", usual), times=60)
    fills = [{each.address: each.fill for each in scene.choose().judged} for scene in (heard, plain)]
    assert fills[0] == pytest.approx(fills[1], rel=0.05)


def test_a_cache_that_is_said_to_be_empty_while_requests_run_makes_no_node_look_empty() -> None:
    scene = Scene()
    busy = dict.fromkeys("abc", Counts(20, 0, True))
    pages = {"a": {"kv": 0.0, "running": 20}, "b": {"kv": 0.3, "running": 20}, "c": {"kv": 0.3, "running": 20}}
    scene.step(pages, busy, times=200)
    fills = {each.address[0]: each.fill for each in scene.choose().judged}
    assert fills["a"] > fills["b"] / 2


def test_where_every_node_is_out_of_service_it_says_so() -> None:
    scene = Scene("abcd")
    scene.step({}, times=4)
    scene.step({}, {name: Counts(0, 0, False) for name in "abcd"})
    assert scene.choose().silence == "none"


def test_a_node_that_was_doubted_and_begins_anew_has_forgotten_too() -> None:
    scene = Scene("ab")
    chain = tuple(f"{n:08x}" for n in range(8))

    def find_hits(name: str) -> list[float]:
        return [one.hit for one in scene.choose(Asked(8192, None, chain)).judged if one.address[0] == name]

    scene.step({}, times=20)
    first = scene.choose(Asked(8192, None, chain)).member
    assert first is not None
    name = first.address[0]
    frozen = {"prompt_tokens": 9e6, "life": 7.0, "running": 10}
    for _ in range(8):
        scene.step({name: frozen}, {name: Counts(10, 0, True)})
    assert scene.chooser._nodes[first.address].suspect_until > scene.now
    scene.chooser._beginnings.remember(first.address, Asked(8192, None, chain), 2048.0, None)
    scene.step({name: {"prompt_tokens": 10.0, "life": 1.0, "running": 0}})
    scene.step({name: {"prompt_tokens": 20.0, "life": 2.0, "running": 0}}, times=60)
    assert find_hits(name) == [0.0]


def test_a_counter_that_one_page_lacks_is_no_new_beginning() -> None:
    scene = Scene("ab")
    chain = tuple(f"{n:08x}" for n in range(8))
    scene.step({}, times=20)
    assert scene.choose(Asked(8192, None, chain)).member is not None
    scene.step({name: {"prompt_tokens": None} for name in "ab"})
    scene.step({})
    assert any(one.hit for one in scene.choose(Asked(8192, None, chain)).judged)


def test_nodes_that_were_all_out_and_come_back_are_judged_again_after_a_while() -> None:
    scene = Scene("ab")
    scene.step({}, times=8)
    assert scene.choose().member is not None
    scene.step({}, {name: Counts(0, 0, False) for name in "ab"})
    assert scene.choose().silence == "none"
    scene.step({})
    assert scene.choose().silence == "few"
    scene.step({}, times=44)
    assert scene.choose().member is not None
