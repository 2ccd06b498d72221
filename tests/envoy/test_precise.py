"""A node named for a request: where it is asked for, what the name can do, and what happens without an answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest

from support.choice import ask, cluster_of, find_ways, name_by_choice, reach
from support.oracle import Oracle
from support.stack import Stack, node, policy
from support.witness import Heard, Witness, status
from weighbridge_operator.sources.envoys import read_envoys

pytestmark = pytest.mark.envoy
PRECISE: dict[str, Any] = {"balance": {"precise": True}}


async def wait_reason(stack: Stack, reason: str) -> str:
    """Waits until the policy is programmed for this reason; the message."""
    version = 0
    async with asyncio.timeout(20):
        while True:
            report, version = await stack.reporter.reports.wait_newer(version)
            for each in report.objects:
                for condition in each.conditions:
                    if (each.name, condition.type, condition.reason) == ("p", "Programmed", reason):
                        return condition.message


async def wait_notice(stack: Stack, begins: str | None) -> None:
    """Waits until this is the only notice of the gateway, or there is none though its Envoys were read."""
    version = 0
    async with asyncio.timeout(20):
        while True:
            report, version = await stack.reporter.reports.wait_newer(version)
            told, answered = report.remarks.notices, stack.loop.envoy_rounds.get()
            if begins is None and answered is not None and answered.states and not told:
                return
            if begins is not None and len(told) == 1 and told[0].startswith(begins):
                return


@pytest.mark.parametrize("beside", [False, True])
async def test_the_statistics_say_whether_one_is_beside_it(beside: bool) -> None:
    """So that the replica that writes statuses knows it of Envoys that are connected to another."""
    sockets = ("/nowhere/socket",) if beside else ()
    async with Witness() as a, Stack(node("a", a.port), dataplanes=sockets) as stack, aiohttp.ClientSession() as http:
        found = await read_envoys(http, {"e": stack.envoys[0].admin_url}, time.monotonic)
    assert found.states["e"].dataplanes == beside


async def test_the_named_node_is_taken_and_an_answer_says_who_chose() -> None:
    async with Oracle() as oracle, Witness() as a, Witness() as b:
        objects = [node("a", a.port), node("b", b.port), policy("p", **PRECISE)]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            oracle.address = f"127.0.0.1:{b.port}"
            assert await name_by_choice(stack) == {"b"}
            oracle.address = None
            quiet = [(await ask(stack))[1] for _ in range(40)]
            assert {each["x-weighbridge-node"] for each in quiet} == {"a", "b"}
            assert {each["x-weighbridge-choice"] for each in quiet} == {"weights"}


async def test_the_data_plane_sees_the_policy_and_hardly_anything_else() -> None:
    async with Oracle() as oracle, Witness() as a, Witness() as b:
        objects = [node("a", a.port), node("b", b.port), policy("p", **PRECISE)]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            await ask(stack, authorization="Bearer secret", **{"x-weighbridge-blocks": "00000000"})
            (request,) = oracle.asked
            seen = {header.key: header.raw_value for header in request.request_headers.headers.headers}
            assert set(seen) == {"content-length", "x-request-id", "x-weighbridge-blocks"}
            assert not seen["x-weighbridge-blocks"], "a prompt of less than a block, and not what the caller says of it"
            (attributes,) = request.attributes.values()
            (text,) = (value.string_value for value in attributes.fields.values())
            assert json.loads(text) == {"clusters": [cluster_of(stack, "a")]}
            page = json.loads(await stack.envoys[0].admin("/runtime"))["entries"]
            pool = json.loads(page[f"weighbridge.pool.{cluster_of(stack, 'a')}"]["final_value"])
            assert pool["nodes"][0] == {
                "address": f"127.0.0.1:{a.port}",
                "node": "default/a",
                "engine": "vllm",
                "metrics": [f"http://127.0.0.1:{a.port}/metrics"],
            }


async def test_the_data_plane_is_told_how_a_request_begins_and_its_conversation_and_the_node_is_not() -> None:
    async with Oracle() as oracle, Witness() as a, Witness() as b:
        objects = [
            node("a", a.port, models=[{"name": "m", "servedAs": "n"}]),
            node("b", b.port),
            policy("p", **PRECISE),
        ]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            messages = [{"role": "user", "content": "why? " * 1000}]
            async with aiohttp.ClientSession() as http:
                for length in (7, 7000):
                    body = {"max_tokens": length, "messages": messages, "model": "m"}
                    async with http.post(
                        f"{stack.url}/v1/chat/completions", json=body, headers={"x-session-id": "talk"}
                    ) as answer:
                        assert answer.status == 200
            before, told = (
                {header.key: header.raw_value for header in asked.request_headers.headers.headers}
                for asked in oracle.asked[-2:]
            )
            assert len(told["x-weighbridge-blocks"].split(b".")) == 7
            assert told["x-weighbridge-blocks"] == before["x-weighbridge-blocks"], "what stands before it is no prompt"
            assert len(told["x-weighbridge-session"]) == 16
            heard = [one for one in (*a.heard, *b.heard) if b"why?" in one.body][-1]
            assert not {"x-weighbridge-blocks", "x-weighbridge-session"} & {name for name, _ in heard.headers}
            assert json.loads(heard.body)["messages"] == messages


def find_beginning(request: ProcessingRequest) -> tuple[str, bool]:
    """The hashes of a request's beginning, and whether its route says that all Envoys have the same."""
    told = {header.key: header.raw_value.decode() for header in request.request_headers.headers.headers}
    (attributes,) = request.attributes.values()
    (text,) = (value.string_value for value in attributes.fields.values())
    return told["x-weighbridge-blocks"], json.loads(text).get("shared", False)


@pytest.mark.parametrize("uid", ["drawn", None])
async def test_envoys_name_a_beginning_alike_where_an_api_server_drew_the_policy_s_uid(uid: str | None) -> None:
    told = policy("p", **PRECISE)
    told["metadata"] |= {"uid": uid} if uid else {}
    body = {"model": "m", "messages": [{"role": "user", "content": "why does a queue grow? " * 200}]}
    async with (
        Oracle() as oracle,
        Witness() as a,
        Stack(node("a", a.port), told, envoys=2, dataplanes=(oracle.path,)) as stack,
        asyncio.timeout(30),
    ):
        while not all([await envoy.stat("http.entrance.ext_proc.streams_started") for envoy in stack.envoys]):
            async with aiohttp.ClientSession() as http:  # the kernel gives each connection to one of them
                await (await http.post(f"{stack.url}/v1/chat/completions", json=body)).read()
        found = {find_beginning(request) for request in oracle.asked}
    assert {shared for _, shared in found} == {uid is not None}
    assert len({blocks for blocks, _ in found}) == (1 if uid else 2)


async def test_routes_without_it_never_ask_nor_have_what_asks() -> None:
    async with Oracle() as oracle, Witness() as a, Witness() as b:
        rules = policy("p", match={"models": ["m"]}, **PRECISE)
        objects = [node("a", a.port), node("b", b.port, "other"), rules]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            made = "http.entrance.composite.filter_delegation_success"
            before = await stack.envoys[0].stat(made)
            for _ in range(5):
                assert (await ask(stack, "other"))[0] == 200
            assert not oracle.asked
            assert await stack.envoys[0].stat(made) == before
            assert (await ask(stack))[0] == 200
            assert (len(oracle.asked), await stack.envoys[0].stat(made)) == (1, before + 1)


async def test_no_header_of_a_callers_changes_the_node() -> None:
    async with Oracle() as oracle, Witness() as a, Witness() as b, Witness() as c:
        rules = policy("p", match={"models": ["m"]}, fallback=[{"model": "small"}], **PRECISE)
        nodes = [node("a", a.port), node("b", b.port), node("c", c.port, "small")]
        async with Stack(*nodes, rules, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            oracle.address = f"127.0.0.1:{a.port}"
            oracle.cluster = (await find_ways(oracle, stack))[cluster_of(stack, "a")]
            forged = {
                "x-weighbridge-cluster": cluster_of(stack, "c"),
                "x-weighbridge-choice": f"127.0.0.1:{c.port}",
                "x-envoy-upstream-alt-stat-name": "x",
                "weighbridge.choice": f"127.0.0.1:{b.port}",
            }
            assert await name_by_choice(stack, **forged) == {"a"}


async def test_a_named_node_that_fails_costs_one_more_try() -> None:
    async with Oracle() as oracle, Witness(status(503)) as a, Witness() as b:
        objects = [node("a", a.port), node("b", b.port), policy("p", **PRECISE)]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack:
            await reach(oracle, stack)
            oracle.address = f"127.0.0.1:{a.port}"
            assert Counter([(await ask(stack))[0] for _ in range(20)]) == {200: 20}
            assert len(b.heard) >= 20


async def test_without_a_data_plane_the_weights_decide() -> None:
    async with Witness() as a, Witness() as b:
        objects = [node("a", a.port), node("b", b.port), policy("p", **PRECISE)]
        async with Stack(*objects) as bare:
            assert {(await ask(bare))[1]["x-weighbridge-node"] for _ in range(40)} == {"a", "b"}
        async with Stack(*objects, dataplanes=("/nowhere/socket",)) as dead:
            assert {(await ask(dead))[1]["x-weighbridge-node"] for _ in range(40)} == {"a", "b"}


async def test_several_envoys_are_told_what_all_have_in_flight() -> None:
    async def held(_: Heard, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with Witness(held) as a, Witness(held) as b:
        objects = [node("a", a.port), node("b", b.port), policy("p", **PRECISE)]
        async with Stack(*objects, envoys=2, dataplanes=("/nowhere/socket",)) as stack, asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(ask(stack)) for _ in range(8)]
            key = f"weighbridge.others.{cluster_of(stack, 'a')}"
            async with asyncio.timeout(20):
                while True:
                    entries = json.loads(await stack.envoys[0].admin("/runtime"))["entries"]
                    told = json.loads(entries[key]["final_value"]) if key in entries else {"active": {}}
                    if sum(told["active"].values()) == 8:
                        break
                    await asyncio.sleep(0.1)
            assert told["envoys"] == 2
            assert set(told["active"]) == {f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"}
            for each in waiting:
                each.cancel()


async def test_a_policy_says_where_no_data_plane_is() -> None:
    async with Witness() as a, Witness() as b:
        objects = [node("a", a.port), node("b", b.port), policy("p", **PRECISE)]
        async with Stack(*objects) as bare:
            message = await wait_reason(bare, "NoDataPlane")
            assert message.startswith("Envoy envoy-0 has no data plane beside it")
            await wait_notice(bare, "Envoy envoy-0 has no data plane beside it: there the weights decide")
        async with Stack(*objects, dataplanes=("/nowhere/socket",)) as beside:
            await wait_reason(beside, "Programmed")
            await wait_notice(beside, "Envoy envoy-0's data plane does not answer: there the weights decide")
        async with Oracle() as oracle, Stack(*objects, dataplanes=(oracle.path, "/nowhere/socket")) as half:
            await wait_notice(half, "1 of Envoy envoy-0's 2 data planes does not answer: the rest decide alone")
        async with Oracle() as oracle, Stack(*objects, dataplanes=(oracle.path,)) as well:
            await wait_notice(well, None)
