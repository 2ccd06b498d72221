"""What a session claims of a prompt, and how far its beginning bears that out."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import mean

import pytest

from weighbridge_dataplane.affinity import Affinity
from weighbridge_dataplane.facts import DEPTHS, Beginning
from weighbridge_dataplane.sessions import ANSWER_MOST, GAINED, SESSIONS_KEPT_IN_ALL, Last, Sessions

SIZE = DEPTHS[8] + 100.0
BEGUN = Beginning("n", (), None, 1.0)
CHAIN = tuple(f"{number:08x}" for number in range(8))
OTHER = tuple(f"{number:08x}" for number in range(100, 108))


def test_one_session_for_prompts_that_share_nothing_claims_nothing() -> None:
    memory = Affinity()
    memory.remember(Beginning("a", CHAIN, "app", SIZE))
    found = memory.find(OTHER, "app", SIZE)
    assert (found.tokens, found.trust) == ({}, 0.0)


def test_a_conversation_that_goes_on_claims_its_answer_too_whatever_stands_behind_the_prompt() -> None:
    memory = Affinity()
    memory.remember(Beginning("a", CHAIN, "talk", SIZE))
    longer = (*CHAIN[:7], *OTHER[:5])
    found = memory.find(longer, "talk", SIZE + 1000.0)
    assert (found.tokens, found.trust) == ({"a": SIZE + 500.0}, 1.0)


def test_of_a_common_prompt_with_other_questions_counts_what_is_common() -> None:
    memory = Affinity()
    memory.remember(Beginning("a", CHAIN, "app", SIZE))
    found = memory.find((*CHAIN[:5], *OTHER[:3]), "app", SIZE)
    assert found.trust == DEPTHS[6] / DEPTHS[8]
    assert found.tokens == {"a": found.trust * SIZE}


def test_a_prompt_that_goes_on_where_one_alone_ended_claims_its_answer_too_though_nothing_names_it() -> None:
    memory = Affinity()
    memory.remember(Beginning("a", CHAIN[:4], None, 300.0))
    assert memory.find((*CHAIN[:4], *OTHER), None, 700.0).tokens == {"a": 500.0}
    memory.remember(Beginning("a", (*CHAIN[:4], *OTHER[:2]), None, 800.0))
    assert memory.find((*CHAIN[:4], *OTHER[:3]), None, 900.0).tokens == {"a": 850.0}
    common = memory.find((*CHAIN[:4], *OTHER[3:]), None, 900.0)
    assert common.tokens == {"a": DEPTHS[4]}, "what two have goes on in neither's way"
    memory.remember(Beginning("a", CHAIN[:4], None, 300.0))
    assert memory.find(CHAIN[:4], None, 310.0).tokens == {"a": DEPTHS[4]}, "two questions shorter than a block"


def test_a_turn_that_adds_less_than_a_block_leaves_the_next_one_found() -> None:
    memory = Affinity()
    for size in (275.0, 350.0):
        memory.remember(Beginning("a", CHAIN[:3], None, size))
    assert memory.find(CHAIN[:4], None, 450.0).tokens == {"a": 400.0}


def test_a_shorter_prompt_does_not_go_on_a_longer_one_and_is_another_question_with_the_same_beginning() -> None:
    memory = Affinity()
    memory.remember(Beginning("a", CHAIN[:3], None, 350.0))
    assert memory.find(CHAIN[:3], None, 300.0).tokens == {}
    for size in (300.0, 350.0):
        memory.remember(Beginning("a", CHAIN[:3], None, size))
    assert memory.find(CHAIN[:4], None, 450.0).tokens == {}, "for good: it is common to many"


def test_a_few_common_words_draw_nobody_to_the_node_that_had_them_first() -> None:
    memory = Affinity()
    for question in OTHER[:2]:
        memory.remember(Beginning("a", (*CHAIN[:3], question), None, 300.0))
    assert memory.find((*CHAIN[:3], OTHER[4]), None, 300.0).tokens == {}
    memory.remember(Beginning("b", CHAIN[4:6], None, 100.0))
    assert memory.find(CHAIN[4:6], None, 100.0).tokens == {}, "nor so short a prompt, asked again"


def test_few_words_in_common_say_no_more_of_a_session_than_is_known_of_it() -> None:
    """An application's short prompts are no reason to take a long one under its name for a conversation's next turn."""
    memory = Affinity()

    def ask(blocks: tuple[str, ...], size: float) -> float:
        found = memory.find(blocks, "app", size)
        memory.remember(Beginning("a", blocks, "app", size, 1.0 if found.trust is None else found.trust))
        return found.tokens.get("a", 0.0)

    ask(CHAIN, SIZE)
    assert ask(CHAIN[:1], 100.0) == 0.0, "so short a prompt"
    assert ask((*CHAIN[:1], "second"), 100.0) == 0.0
    assert ask((*CHAIN[:1], *OTHER[1:]), SIZE) < GAINED
    assert ask((*CHAIN[:1], *OTHER[1:], "more"), 2 * SIZE) == SIZE + ANSWER_MOST, "a conversation, as it bears out"


def test_where_no_block_is_seen_it_is_believed_as_before() -> None:
    memory = Affinity()
    memory.remember(Beginning("a", CHAIN, "app", SIZE))
    memory.remember(Beginning("a", OTHER, "app", SIZE, memory.find(OTHER, "app", SIZE).trust or 0.0))
    assert memory.find((), "app", SIZE).tokens == {}
    memory.remember(Beginning("b", (), "talk", SIZE))
    assert memory.find((), "talk", SIZE).tokens == {"b": SIZE}
    assert memory.find((), "talk", GAINED - 1.0).tokens == {}, "of so little nobody gains"


@pytest.mark.parametrize("dataplanes", [1, 2, 4])
def test_how_many_go_on_is_reckoned_from_those_that_come_again_here(dataplanes: int) -> None:
    """Conversations of five turns, each through any data plane: four of five requests go on, wherever they began."""
    sessions, random = Sessions(), Random(1)
    found = []
    for number in range(3000):
        while True:
            if random.randrange(dataplanes) == 0:
                sessions.remember(str(number), BEGUN)
            if random.random() < 0.2:
                break
        found.append(sessions.go_on(dataplanes))
    assert mean(found[500:]) == pytest.approx(0.8, abs=0.05)


def test_a_session_is_remembered_until_many_others_came() -> None:
    sessions = Sessions(most=2)
    for each in "abc":
        sessions.remember(each, BEGUN)
    assert sessions.find("a") is None
    assert sessions.find("c") == Last("n", 1.0, 0)


def test_pools_share_how_many_sessions_are_remembered() -> None:
    sessions = Sessions()
    for number in range(60):
        sessions.remember(str(number), BEGUN)
    sessions.share(SESSIONS_KEPT_IN_ALL // 50)
    assert sessions.find("9") is None, "given up at once"
    assert sessions.find("10") is not None
    sessions.remember("60", BEGUN)
    assert sessions.find("10") is None


def test_those_that_came_by_others_alone_do_not_come_again_here() -> None:
    sessions = Sessions()
    for number in range(400):
        sessions.remember(str(number), BEGUN, told=True, ours=False)
        sessions.remember(str(number), BEGUN)
    assert sessions.repeated < 0.01
    for number in range(400):
        sessions.remember(str(number), BEGUN, told=True, ours=False)
        sessions.remember(str(number), BEGUN)
    assert sessions.repeated > 0.99, "these came by here before, whoever had them last"


def test_a_node_that_is_gone_is_nobody_s_common_one_and_what_another_read_since_is_still_known() -> None:
    sessions = Sessions()
    sessions.remember("talk", BEGUN, told=True)
    sessions.remember("talk", replace(BEGUN, address="m"))
    sessions.forget({"n"})
    assert sessions.find("talk") == Last("m", 1.0, 0, common=None)
    sessions.forget({"m"})
    assert sessions.find("talk") is None
