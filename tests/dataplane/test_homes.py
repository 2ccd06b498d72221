"""Conversations through several Envoys: data planes that share no memory send one to the same node, if it has room."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from weighbridge_dataplane.beginnings import Beginnings
from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import DEPTHS, Asked, Beginning, Counts, Heard, Member, Sample
from weighbridge_dataplane.homes import Homes

SESSIONS = [f"{number:016x}" for number in range(8000)]


def make_members(*rooms: float | None) -> list[Member]:
    return [Member(f"10.0.0.{i}:80", "pool", f"default/{i}", "vllm", capacity=room) for i, room in enumerate(rooms)]


def place(members: list[Member]) -> dict[str, str]:
    homes = Homes()
    homes.tell(members)
    return {session: homes.find(session) or "" for session in SESSIONS}


@pytest.mark.parametrize("rooms", [(None,) * 6, (4.0, 4.0, 2.0, 2.0, 1.0, 1.0)])
def test_homes_are_shared_out_by_room(rooms: tuple[float | None, ...]) -> None:
    members = make_members(*rooms)
    counts = Counter(place(members).values())
    whole = sum(room or 1.0 for room in rooms)
    for member in members:
        assert 0.4 < counts[member.address] / len(SESSIONS) / ((member.capacity or 1.0) / whole) < 1.8


def test_who_leaves_moves_only_what_was_at_home_there() -> None:
    members = make_members(*(None,) * 6)
    before, after = place(members), place(members[1:])
    assert all(after[session] == home for session, home in before.items() if home != members[0].address)
    assert place(list(reversed(members))) == before


def test_without_nodes_nobody_is_at_home() -> None:
    assert Homes().find("a") is None


def read(chooser: Chooser, members: list[Member], now: float, full: str = "", envoys: int = 2) -> None:
    """A moment at which all nodes are idle but one, and read 1,000 tokens a second at best."""
    for member in members:
        kv = 0.95 if member.address == full else 0.1
        chooser.read(member.address, Sample(now, kv, 0.0, 4.0, 10_000 + 1000 * now, 500 * now), now)
    chooser.count({member.address: Counts(2, 0, True) for member in members}, now)
    if envoys > 1:
        chooser.hear({member.address: 4 for member in members}, (), now)


def start(members: list[Member], seed: int, envoys: int = 2, full: str = "", processes: int = 1) -> Chooser:
    chooser = Chooser(Random(seed).random, processes)
    chooser.tell(members, envoys)
    for step in range(80):
        read(chooser, members, step * 0.25, full, envoys)
    return chooser


def name(chooser: Chooser, session: str, now: float = 20.0) -> str:
    choice = chooser.choose(Asked(size=2000, session=session), now)
    assert choice.member is not None
    return choice.member.address


@pytest.mark.parametrize(("envoys", "processes"), [(2, 1), (1, 2)])
def test_two_data_planes_send_a_conversation_to_the_same_node(envoys: int, processes: int) -> None:
    members = make_members(*(None,) * 6)
    pairs = []
    for session in SESSIONS[:60]:
        one, other = (start(members, seed, envoys, processes=processes) for seed in (1, 2))
        pairs.append((name(one, session), name(other, session)))
    assert sum(one == other for one, other in pairs) >= 55
    assert len({one for one, _ in pairs}) == 6


def test_no_home_draws_a_conversation_to_a_node_without_room() -> None:
    members = make_members(*(None,) * 6)
    home = place(members)[SESSIONS[0]]
    assert name(start(members, 1), SESSIONS[0]) == home
    assert name(start(members, 1, full=home), SESSIONS[0]) != home


def test_it_is_told_by_whose_memory_a_beginning_was_judged() -> None:
    members = make_members(*(None,) * 6)
    talk, homes = Asked(4000, SESSIONS[0], shared=True), place(members)
    alone, among = start(members, 1, envoys=1), start(members, 1)
    asked = [talk, Asked(4000, SESSIONS[1]), Asked(4000)]
    told = [(each.known, each.home) for each in (alone.choose(one, 20.0) for one in asked)]
    assert told == [("all", None), ("own", None), (None, None)]
    told = [(each.known, each.home) for each in (among.choose(one, 20.0) for one in asked)]
    assert told == [("home", homes[SESSIONS[0]]), ("home", homes[SESSIONS[1]]), (None, None)]
    among.attend(Heard(1, 1))
    assert among.choose(talk, 20.0).known == "all"


def test_what_one_data_plane_remembers_does_not_keep_it_from_a_home_that_knows_more() -> None:
    """It saw an early turn go elsewhere; those after it came through the other Envoy."""
    members = make_members(*(None,) * 6)
    home = place(members)[SESSIONS[0]]
    chooser = start(members, 1, full=home)
    chooser.choose(Asked(size=4000, session=SESSIONS[0]), 20.0)
    for step in range(81, 160):
        read(chooser, members, step * 0.25)
    choice = chooser.choose(Asked(size=6400, session=SESSIONS[0]), 40.0)
    assert choice.member is not None
    assert choice.member.address == home


def test_a_new_conversation_that_begins_as_others_did_goes_where_that_was_read() -> None:
    """Under one system prompt a home for each would have every node read it."""
    members = make_members(*(None,) * 6)
    chooser, blocks = start(members, 1), tuple(f"{number:08x}" for number in range(11))
    first = chooser.choose(Asked(10_400, None, blocks), 20.0).member
    for number, session in enumerate(SESSIONS[:5]):
        for step in range(81 + 40 * number, 121 + 40 * number):
            read(chooser, members, step * 0.25)
        assert chooser.choose(Asked(10_400, session, blocks), 30.0 + 10 * number).member == first


def test_among_many_nodes_that_have_read_a_prompt_its_home_draws_it_no_more_than_they() -> None:
    """More have read it than are looked at: some homes are not among those, and have read it all the same."""
    members, blocks, size = make_members(*(None,) * 200), tuple(f"{n:08x}" for n in range(12)), float(DEPTHS[12])
    beginnings, homes = Beginnings(processes=1, pool=0), place(members)
    beginnings.tell(members, envoys=2, gone=())
    for member in members:
        beginnings.remember(member.address, Asked(4 * DEPTHS[12], None, blocks), size, None)
    last, unseen = members[0].address, 0
    for session in SESSIONS[:20]:
        talk = Asked(4 * DEPTHS[12], session, blocks)
        beginnings.remember(last, talk, size, 1.0)
        drawn = beginnings.find(talk, size, among=(last,))
        assert (drawn.known, drawn.home, drawn.last) == ("own", None, last)
        unseen += homes[session] not in drawn.read
    assert unseen > 0, "a chance of 1 in 10^15: which are looked at goes by Python's hashes"


def test_one_envoy_goes_by_its_own_memory_alone() -> None:
    members = make_members(*(None,) * 6)
    named = Counter(name(start(members, seed, envoys=1), SESSIONS[0]) for seed in range(30))
    assert len(named) > 3


def test_sessions_that_never_come_again_have_no_home() -> None:
    members = make_members(*(None,) * 6)
    homes = place(members)
    chooser = start(members, 1)
    assert name(chooser, SESSIONS[0]) == homes[SESSIONS[0]]
    at_home = []
    for number, session in enumerate(SESSIONS[1:400]):
        now = 20.0 + number * 0.25
        read(chooser, members, now)
        choice = chooser.choose(Asked(size=2000, session=session), now)
        assert choice.member is not None
        at_home.append(choice.member.address == homes[session])
    assert sum(at_home[:20]) > 15
    assert sum(at_home[-100:]) < 50


def tell_each_other(choosers: list[Chooser], teller: int, session: str, blocks: tuple[str, ...], now: float) -> str:
    """A turn through one data plane, of whose beginning it tells the others."""
    choice = choosers[teller].choose(Asked(4 * 256 * len(blocks), session, blocks, shared=True), now)
    assert choice.member is not None
    assert choice.begun is not None
    for chooser in choosers[:teller] + choosers[teller + 1 :]:
        chooser.hear_begun(choice.begun)
    return choice.member.address


def test_data_planes_that_tell_each_other_how_prompts_begin_choose_as_one() -> None:
    members = make_members(*(None,) * 6)
    choosers = [start(members, seed) for seed in (1, 2)]
    for chooser in choosers:
        chooser.attend(Heard(1, 1))
    homes = place(members)
    strayed = 0
    for number, session in enumerate(SESSIONS[:40]):
        talk = tuple(f"{number:04x}{block:04x}" for block in range(12))
        nodes = [tell_each_other(choosers, turn % 2, session, talk[: 4 + 2 * turn], 20.0) for turn in range(4)]
        assert len(set(nodes)) == 1, "the node that has read it, whoever sent it there"
        strayed += nodes[0] != homes[session]
    assert strayed > 20, "a new conversation goes where there is room, not home"


def test_a_session_of_prompts_that_share_nothing_is_not_believed_of_others_either() -> None:
    members = make_members(*(None,) * 6)
    choosers = [start(members, seed) for seed in (1, 2)]
    for chooser in choosers:
        chooser.attend(Heard(1, 1))
    nodes = Counter(
        tell_each_other(choosers, number % 2, "app", tuple(f"{number:04x}{b:04x}" for b in range(12)), 20.0)
        for number in range(60)
    )
    assert max(nodes.values()) < 20


@pytest.mark.parametrize(
    ("heard", "shared", "processes", "homes_serve"),
    [
        (Heard(2, 2), True, 1, False),
        (Heard(1, 1), True, 1, True),
        (Heard(2, 2), False, 1, True),
        (Heard(2, 2, begins=False), True, 1, True),
        (Heard(2, 2), True, 2, True),
        (Heard(3, 2, beside=1), True, 2, False),
    ],
)
def test_homes_serve_as_long_as_somebody_does_not_tell(
    heard: Heard, shared: bool, processes: int, homes_serve: bool
) -> None:
    members = make_members(*(None,) * 6)
    homes, at_home = place(members), 0
    for session in SESSIONS[:60]:
        chooser = start(members, 1, envoys=3, processes=processes)
        chooser.attend(heard)
        choice = chooser.choose(Asked(2000, session, shared=shared), 20.0)
        assert choice.member is not None
        at_home += choice.member.address == homes[session]
    assert at_home > 50 if homes_serve else at_home < 30


@pytest.mark.parametrize("heard", [Heard(1, 1), Heard()])
def test_envoys_of_other_operators_count_once_their_data_planes_are_heard(heard: Heard) -> None:
    members = make_members(*(None,) * 6)
    homes, at_home = place(members), 0
    for session in SESSIONS[:60]:
        chooser = start(members, 1, envoys=1)
        chooser.attend(heard)
        choice = chooser.choose(Asked(2000, session), 20.0)
        assert choice.member is not None
        at_home += choice.member.address == homes[session]
    assert at_home > 50 if heard.envoys else at_home < 30


def test_who_is_not_heard_any_more_finds_conversations_where_all_knew_them() -> None:
    members = make_members(*(None,) * 6)
    choosers = [start(members, seed) for seed in (1, 2)]
    for chooser in choosers:
        chooser.attend(Heard(1, 1))
    talks = {s: tuple(f"{number:04x}{block:04x}" for block in range(40)) for number, s in enumerate(SESSIONS[:40])}
    nodes = {session: tell_each_other(choosers, 0, session, talk[:8], 20.0) for session, talk in talks.items()}
    for chooser in choosers:
        chooser.attend(Heard())
    for turn in range(1, 5):
        for session, talk in talks.items():
            blocks = talk[: 8 + 8 * turn]
            choice = choosers[turn % 2].choose(Asked(1024 * len(blocks), session, blocks, shared=True), 20.0)
            assert choice.member is not None
            assert choice.member.address == nodes[session], turn


def test_what_is_heard_of_a_node_that_is_gone_is_not_remembered() -> None:
    members = make_members(*(None,) * 6)
    chooser = start(members, 1)
    chooser.attend(Heard(1, 1))
    chooser.hear_begun(Beginning("10.9.9.9:80", ("0" * 8,) * 8, "talk", 2000.0))
    chooser.hear_begun(Beginning(members[0].address, ("1" * 8,) * 8, "other", 2000.0))
    asked = [Asked(8192, name, (digit * 8,) * 8, shared=True) for name, digit in (("talk", "0"), ("other", "1"))]
    hits = [{each.address for each in chooser.choose(one, 20.0).judged if each.hit} for one in asked]
    assert hits == [set(), {members[0].address}]
