"""What other data planes say that they sent: it counts until a page shows it, and never makes a node look better."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.choosing import CHAT, Scene
from weighbridge_dataplane.facts import Beginning, Heard, Judged, Sent
from weighbridge_dataplane.hearsay import WORDS, Hearsay
from weighbridge_dataplane.outbox import ADDRESSES, BESIDE, BLOCKS, FOR_EACH, LEAST, Outbox

words = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9), st.floats(0, 1e4)), max_size=3 * WORDS)


@given(words, st.floats(0, 100))
def test_what_a_page_shows_is_forgotten_and_the_rest_adds_up(said: list[tuple[float, int, float]], page: float) -> None:
    hearsay = Hearsay()
    for word in said[:WORDS]:
        hearsay.hear(*word)
    hearsay.read(page)
    left = [word for word in said[:WORDS] if word[0] > page]
    assert hearsay.requests == sum(word[1] for word in left)
    assert abs(hearsay.tokens - sum(word[2] for word in left)) < 1
    hearsay.hear(page, 5, 5.0)
    assert hearsay.requests == sum(word[1] for word in left), "an older word than the page"


@given(words)
def test_it_is_bounded_and_loses_nothing_of_what_a_page_has_not_shown(said: list[tuple[float, int, float]]) -> None:
    hearsay = Hearsay()
    for word in said:
        hearsay.hear(*word)
    assert len(hearsay._words) <= WORDS
    hearsay.read(min((word[0] for word in said), default=0) - 1)
    assert hearsay.requests == sum(word[1] for word in said)
    hearsay.read(100)
    assert (hearsay.requests, hearsay.tokens) == (0, 0)


def test_what_others_sent_makes_a_node_fuller_until_its_next_page() -> None:
    scene = Scene(envoys=2)
    scene.step({}, times=8)
    scene.chooser.attend(Heard(1, 1))
    before = {each.address: each for each in scene.choose().judged}
    scene.step({})
    scene.chooser.hear_sent(Sent("a:80", 30, 40_000.0, 0.0), scene.now + 0.01)
    scene.now += 0.01
    after = {each.address: each for each in scene.choose().judged}
    assert after["a:80"].fill > before["a:80"].fill
    assert after["a:80"].backlog > before["a:80"].backlog
    assert set(scene.name(20)) == {"b", "c"}
    scene.step({}, times=2)
    assert judge(scene)["a:80"].fill <= before["a:80"].fill
    assert scene.name(30)["a"] > 0


def test_a_word_that_the_page_shows_already_counts_nothing() -> None:
    scene = Scene(envoys=2)
    scene.step({}, times=8)
    before = judge(scene)["a:80"]
    scene.chooser.hear_sent(Sent("a:80", 1000, 1e6, 0.3), scene.now)
    assert judge(scene)["a:80"].load <= before.load + 0.1


@given(st.lists(st.tuples(st.sampled_from("abcx"), st.integers(0, 1000), st.floats(0, 1e9), st.floats(0, 10))))
def test_whatever_peers_say_a_node_never_looks_better_than_without(said: list[tuple[str, int, float, float]]) -> None:
    told, untold = Scene(envoys=3), Scene(envoys=3)
    for scene in (told, untold):
        scene.step({"b": {"kv": 0.5, "running": 20}, "c": None}, times=8)
        scene.chooser.attend(Heard(2, 2))
    for name, requests, tokens, age in said:
        told.chooser.hear_sent(Sent(f"{name}:80", requests, tokens, age), told.now)
    heard, plain = judge(told), judge(untold)
    assert all(heard[address].load >= plain[address].load for address in plain)
    for scene in (told, untold):
        scene.step({"b": {"kv": 0.5, "running": 20}, "c": None}, times=240)  # a minute: e^-15 of thousands is nothing
    heard, plain = judge(told), judge(untold)
    assert all(heard[address].load == pytest.approx(plain[address].load, abs=0.01) for address in plain)


def test_of_a_node_without_a_page_what_others_sent_counts_until_their_counts_hold_it() -> None:
    scene = Scene(envoys=2)
    scene.step({"c": None}, times=8)
    scene.chooser.hear({}, (), scene.now)
    scene.chooser.hear({f"{name}:80": 0 for name in "abc"}, (), scene.now)
    before = judge(scene)["c:80"]
    assert before.by_count
    fills = [before.fill]
    for _ in range(4):
        scene.chooser.hear_sent(Sent("c:80", 10, 1e4, 0.0), scene.now)
        fills.append(judge(scene)["c:80"].fill)
    assert fills == sorted(set(fills))
    scene.step({"c": None}, times=40)
    assert judge(scene)["c:80"].fill < fills[1]


def test_the_guess_of_what_others_send_is_for_those_alone_that_are_not_heard() -> None:
    fills = []
    for heard in (0, 1, 3, 7):
        scene = Scene(envoys=4)
        scene.step({}, times=8)
        scene.chooser.attend(Heard(heard, heard))
        scene.name(30)
        fills.append(sum(each.fill for each in scene.choose().judged) / len(scene.choose().judged))
    assert fills[0] > fills[1] > fills[2] == fills[3]


def test_all_nodes_are_looked_at_once_all_others_are_heard() -> None:
    scene = Scene("abcdefgh", envoys=4)
    scene.step({}, times=8)
    assert len(scene.choose().judged) == 3
    scene.chooser.attend(Heard(3, 3))
    assert len(scene.choose().judged) == 8
    scene.chooser.attend(Heard())
    assert len(scene.choose().judged) == 3


def test_a_choice_says_what_its_node_has_to_read() -> None:
    scene = Scene()
    assert scene.choose().tokens == 0
    scene.step({}, times=8)
    assert scene.choose(CHAT).tokens == 500


def test_what_was_sent_is_added_up_by_address_until_it_is_told() -> None:
    outbox = Outbox()
    for at, address, tokens in ((1.0, "a", 10.0), (1.02, "a", 20.0), (1.04, "b", 5.0)):
        outbox.put(address, tokens, at)
    told = {each.address: each for each in outbox.take(1.05)[0]}
    assert (told["a"].requests, told["a"].tokens, round(told["a"].age, 3)) == (2, 30.0, 0.04)
    assert (told["b"].requests, round(told["b"].age, 3)) == (1, 0.01)
    assert outbox.take(1.1) == ((), ())
    assert outbox.wait(1.1) is None
    for number in range(2 * ADDRESSES):
        outbox.put(f"n{number}", 1.0, 2.0)
    assert len(outbox.take(2.0)[0]) == ADDRESSES


def test_beginnings_wait_in_order_and_where_they_are_too_many_their_sessions_alone() -> None:
    untold = {"blocks": 0, "all": 0}
    outbox, fit = Outbox(untold=untold), int(BLOCKS * LEAST) // (BESIDE + 30)
    begun = [Beginning("a", ("0" * 8,) * 30, f"{number}", 100.0) for number in range(fit + 1)]
    for each in begun:
        outbox.put("a", 100.0, 1.0, each)
    outbox.put("a", 100.0, 1.0, Beginning("a", ("0" * 8,) * 30, None, 100.0))
    outbox.put("a", 100.0, 1.0)
    sent, told = outbox.take(1.0)
    assert (sent[0].requests, list(told[:fit])) == (fit + 3, begun[:fit])
    assert [each.blocks for each in told[fit:]] == [()]
    assert untold == {"blocks": 1, "all": 1}
    assert outbox.take(1.1)[1] == ()
    outbox.put("a", 100.0, 1.2, begun[-1])
    assert outbox.take(1.2)[1] == (begun[-1],)


def test_as_many_beginnings_a_second_are_told_however_many_hear_them() -> None:
    for hearers in (1, 4, 12):
        outbox = Outbox(hearers)
        outbox.take(0.0)
        for number in range(10_000):
            outbox.put("a", 100.0, 0.0, Beginning("a", ("0" * 8,) * 12, f"{number}", 100.0))
        told, pause = outbox.take(0.1)[1], outbox.wait(0.1) or max(LEAST, FOR_EACH * hearers)
        assert 0.8 < sum(BESIDE + len(each.blocks) for each in told) / pause / BLOCKS <= 1.0


def test_a_word_goes_out_at_once_but_the_more_are_told_the_fewer_there_are() -> None:
    for hearers, least in ((1, 0.01), (3, 0.018), (15, 0.09)):
        outbox = Outbox(hearers)
        outbox.put("a", 1.0, 5.0)
        assert outbox.wait(5.0) == 0
        outbox.take(5.0)
        outbox.put("a", 1.0, 5.001)
        assert outbox.wait(5.001) == pytest.approx(least - 0.001)
        assert outbox.wait(6.0) == 0


def judge(scene: Scene) -> dict[str, Judged]:
    """Every node, by the chooser's own arithmetic; nothing is sent."""
    chooser = scene.chooser
    chooser._refresh(scene.now)
    rows = (chooser._judge(node, 500.0, 0.0, 1.0, scene.now) for node in chooser._order)
    return {row[0]: Judged(*row) for row in rows}
