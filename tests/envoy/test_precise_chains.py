"""A node named for a request where its cluster has others behind it: a pool's other part, a policy's fallback."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from support.choice import ask, cluster_of, find_ways, name_by_choice, reach
from support.oracle import Oracle
from support.stack import Stack, node, policy
from support.witness import Heard, Witness, chat, status

pytestmark = pytest.mark.envoy
PRECISE: dict[str, Any] = {"balance": {"precise": True}}


async def test_a_policy_with_fallback_takes_the_named_node_too() -> None:
    async with Oracle() as oracle, Witness() as a, Witness() as b, Witness() as c:
        rules = policy("p", match={"models": ["m"]}, fallback=[{"model": "small"}], **PRECISE)
        nodes = [
            node("a", a.port),
            node("b", b.port),
            node("c", c.port, "small", models=[{"name": "small", "servedAs": "s"}]),
        ]
        async with Stack(*nodes, rules, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            oracle.address = f"127.0.0.1:{a.port}"
            oracle.cluster = (await find_ways(oracle, stack))[cluster_of(stack, "a")]
            assert await name_by_choice(stack) == {"a"}
            assert "x-weighbridge-cluster" not in {name for heard in a.heard for name, _ in heard.headers}
            oracle.address = oracle.cluster = None
            assert {(await ask(stack))[1]["x-weighbridge-node"] for _ in range(40)} == {"a", "b"}


@pytest.mark.parametrize("way", ["503", "gone"])
@pytest.mark.parametrize("behind", ["the pool's other part", "the fallback"])
async def test_a_named_node_that_is_alone_in_its_cluster_has_the_chain_behind_it(way: str, behind: str) -> None:
    async with Oracle() as oracle, Witness(status(503)) as a, Witness() as b:
        rules = policy("p", match={"models": ["m"]}, fallback=[{"model": "small"}], **PRECISE)
        other = node("b", b.port, "small", models=[{"name": "small", "servedAs": "s"}])
        if behind != "the fallback":
            rules, other = policy("p", **PRECISE), node("b", b.port, health={"interval": "3s"})
        async with Stack(node("a", a.port), other, rules, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            oracle.cluster = (await find_ways(oracle, stack))[cluster_of(stack, "a")]
            oracle.address = f"127.0.0.1:{a.port}"
            if way == "gone":
                await a.close()
            assert Counter([(await ask(stack))[0] for _ in range(20)]) == {200: 20}


async def test_named_nodes_of_several_clusters_are_all_reached_and_sent_their_own_names_and_paths() -> None:
    async with Oracle() as oracle, Witness() as a, Witness() as b:
        objects = [
            node("a", a.port, models=[{"name": "m", "servedAs": "n"}]),
            node("b", b.port, health={"interval": "3s"}),
            policy("p", **PRECISE),
        ]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            ways = await find_ways(oracle, stack)
            for name, heard, served in (("a", a, "n"), ("b", b, "m")):
                oracle.address, oracle.cluster = f"127.0.0.1:{heard.port}", ways[cluster_of(stack, name)]
                heard.heard.clear()
                assert await name_by_choice(stack) == {name}
                assert {json.loads(one.body)["model"] for one in heard.heard if one.body} == {served}


async def hold(_: Heard, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def ask_held(stack: Stack, held: Witness, number: int) -> list[asyncio.Task[tuple[int, Any]]]:
    """So many requests under way, all of them at one node."""
    tasks = [asyncio.create_task(ask(stack)) for _ in range(number)]
    async with asyncio.timeout(20):
        while len(held.heard) < number:  # noqa: ASYNC110  nodes tell nobody
            await asyncio.sleep(0.02)
    return tasks


@pytest.mark.parametrize("chosen", ["by name", "by weights"])
async def test_all_that_a_dying_node_held_goes_on_through_the_chain(chosen: str) -> None:
    """More than ten at once: the budget of retries is a part of requests that a chain has none of itself."""
    async with Oracle() as oracle, Witness(hold) as a, Witness() as b:
        rules = policy("p", match={"models": ["m"]}, fallback=[{"model": "small"}], **PRECISE)
        objects = [node("a", a.port), node("b", b.port, "small"), rules]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack:
            a.answer = chat
            await reach(oracle, stack)
            ways = await find_ways(oracle, stack)
            a.answer = hold
            a.heard.clear()
            if chosen == "by name":
                oracle.address, oracle.cluster = f"127.0.0.1:{a.port}", ways[cluster_of(stack, "a")]
            tasks = await ask_held(stack, a, 40)
            await a.close()
            assert Counter([(await task)[0] for task in tasks]) == {200: 40}


@pytest.mark.parametrize("chosen", ["by name", "by weights"])
async def test_a_request_under_way_is_tried_again_though_its_fallback_was_taken_away(chosen: str) -> None:
    async with Oracle() as oracle, Witness(chat) as a, Witness() as b, Witness() as c:
        nodes = [node("a", a.port), node("b", b.port), node("c", c.port, "small")]
        rules = policy("p", match={"models": ["m"]}, fallback=[{"model": "small"}], **PRECISE)
        without = policy("p", match={"models": ["m"]}, **PRECISE)
        async with Stack(*nodes, rules, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            ways = await find_ways(oracle, stack)
            if chosen == "by name":
                oracle.address, oracle.cluster = f"127.0.0.1:{a.port}", ways[cluster_of(stack, "a")]
            a.answer = hold
            a.heard.clear()
            tasks = [asyncio.create_task(ask(stack)) for _ in range(20)]
            async with asyncio.timeout(20):
                while len(a.heard) + sum(task.done() for task in tasks) < 20:  # noqa: ASYNC110  nodes tell nobody
                    await asyncio.sleep(0.02)
            assert a.heard
            await stack.apply(*nodes, without)
            await a.close()
            assert Counter([(await task)[0] for task in tasks]) == {200: 20}
