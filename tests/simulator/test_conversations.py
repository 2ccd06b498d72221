"""Conversations: every turn sends all that was said, in virtual time as names of blocks, over HTTP as bytes."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from random import Random

import aiohttp

from weighbridge_simulator.conversations import Sessions, draw_sessions, name_turns, write_messages
from weighbridge_simulator.des import simulate
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.gateway import Policy
from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.scenario import Scenario, Traffic, fleet
from weighbridge_simulator.service import BLOCK
from weighbridge_simulator.traffic import Question
from weighbridge_simulator.traffic import Traffic as Sender
from weighbridge_simulator.workload import Arrival, Sizes

SHORT = Sizes(prompt_median=80, prompt_range=(8, 400), answer_median=60, answer_range=(8, 200))


def draw(sessions: Sessions, rate: float = 20.0, seconds: float = 200.0, seed: int = 1) -> list[Arrival]:
    return draw_sessions(rate, seconds, SHORT, sessions, Random(seed))


def by_session(arrivals: list[Arrival]) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        if arrival.session is not None:
            found.setdefault(arrival.session, []).append(arrival)
    return found


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many blocks both begin with."""
    return next(
        (i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


def test_a_turn_begins_with_the_last_one_and_its_answer() -> None:
    talks = [turns for turns in by_session(draw(Sessions(turns=6))).values() if len(turns) > 2]
    assert len(talks) > 100
    for turns in talks:
        for before, after in pairwise(turns):
            assert after.at > before.at
            assert after.turns[: len(before.turns)] == before.turns
            assert common(name_turns(before), name_turns(after)) == (before.prompt + before.answer) // BLOCK
            assert len(name_turns(after)) == (after.prompt + after.answer) // BLOCK


def test_prompts_of_an_application_begin_alike_and_those_of_others_do_not() -> None:
    arrivals = draw(Sessions(turns=1, system=320, groups=3))
    names = {(arrival.turns[0].name, name_turns(arrival)[:20]) for arrival in arrivals}
    assert len(names) == 3
    assert len({blocks[0] for _, blocks in names}) == 3
    users = [sum(arrival.turns[0].name == number for arrival in arrivals) for number in (1, 2, 3)]
    assert users[0] > 1.5 * users[1] > users[2]


def test_a_session_is_what_requests_name() -> None:
    named = {name: draw(Sessions(turns=6, groups=3, named=name)) for name in ("conversation", "application", "nothing")}
    assert len({arrival.session for arrival in named["conversation"]}) > 500
    assert len({arrival.session for arrival in named["application"]}) == 3
    assert {arrival.session for arrival in named["nothing"]} == {None}
    sent = [Question().write(arrivals[0], 1, "host") for arrivals in named.values()]
    assert [b"x-session-id" in each for each in sent] == [True, True, False]


def test_as_many_come_as_were_asked_for_from_the_first_minute_on() -> None:
    arrivals = draw(Sessions(share=0.7, turns=6, most=2000), rate=40.0, seconds=300.0)
    assert abs(len(arrivals) / 300 - 40) < 3
    assert abs(sum(arrival.at < 60 for arrival in arrivals) / 60 - 40) < 6
    assert abs(sum(arrival.session is not None for arrival in arrivals) / len(arrivals) - 0.7) < 0.05
    assert [arrival.at for arrival in arrivals] == sorted(arrival.at for arrival in arrivals)
    assert max(arrival.prompt for arrival in arrivals) <= 2000


def test_in_virtual_time_one_node_reads_a_conversation_once() -> None:
    arrivals = draw(Sessions(turns=6, think=4), rate=1.5)
    outcomes = [
        simulate(
            Scenario(fleet=fleet((1.0,) * nodes), traffic=Traffic(1.5), duration=200.0, warm=20.0),
            Policy("random"),
            arrivals=arrivals,
        )
        for nodes in (1, 6)
    ]
    assert outcomes[0].cached > 0.8
    assert 0 < outcomes[1].cached < 0.6


async def test_over_http_the_node_finds_what_virtual_time_finds() -> None:
    turns = max(by_session(draw(Sessions(turns=6, system=200))).values(), key=len)[:6]
    async with Fleet([NodeSpec(models=(("m", "m"),))]) as running, aiohttp.ClientSession() as http:
        node = running.nodes["node"]
        url = f"http://127.0.0.1:{node.port}/v1/chat/completions"
        asked = found = 0
        for before, turn in pairwise((None, *turns)):
            assert turn is not None
            body = {"model": "m", "messages": write_messages(turn.turns)}
            async with http.post(url, json=body, headers={"x-sim-answer": str(turn.answer)}) as answer:
                usage = (await answer.json())["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            expected = 0 if before is None else (before.prompt + before.answer) // BLOCK * BLOCK
            assert abs(usage["prompt_tokens"] - turn.prompt) <= 2 * len(turn.turns)
            assert expected - 6 * BLOCK <= cached <= expected + BLOCK
            asked, found = asked + usage["prompt_tokens"], found + cached
        async with http.get(f"http://127.0.0.1:{node.port}/metrics") as answer:
            page = await answer.text()
    assert f'vllm:prefix_cache_queries_total{{engine="0",model_name="m"}} {asked}\n' in page
    assert f'vllm:prefix_cache_hits_total{{engine="0",model_name="m"}} {found}\n' in page
    assert 'enable_prefix_caching="True"' in page


async def test_without_a_cache_a_node_finds_nothing() -> None:
    spec = NodeSpec(models=(("m", "m"),), compute=(("prefix_caching", False),))
    body = {"model": "m", "messages": [{"role": "user", "content": "the same again " * 40}], "max_tokens": 4}
    async with Fleet([spec]) as running, aiohttp.ClientSession() as http:
        for _ in range(2):
            url = f"http://127.0.0.1:{running.nodes['node'].port}"
            async with http.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert (await answer.json())["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
        async with http.get(f"{url}/metrics") as answer:
            assert 'enable_prefix_caching="False"' in await answer.text()


async def test_the_load_generator_sends_turns_and_names_their_conversation() -> None:
    arrivals = [a for turns in list(by_session(draw(Sessions(turns=6))).values())[:4] for a in turns[:3]]
    arrivals = [Arrival(0.05 * i, a.prompt, a.answer, 1, a.turns, a.session) for i, a in enumerate(arrivals)]
    spec = NodeSpec()
    async with Fleet([spec]) as running:
        node = running.nodes["node"]
        sender = Sender([f"http://127.0.0.1:{node.port}"], Question(), time.monotonic, Random(1))
        async with asyncio.timeout(60):
            records = await sender.run(arrivals)
        assert records.counts["ok"] == len(arrivals)
        assert node.node.engine.sample(time.monotonic()).cached_tokens > 0
    written = Question().write(arrivals[0], 0, "host")
    head, _, body = written.partition(b"\r\n\r\n")
    assert f"x-session-id: {arrivals[0].session}".encode() in head.split(b"\r\n")
    assert json.loads(body)["messages"] == write_messages(arrivals[0].turns)
