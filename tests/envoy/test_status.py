"""What is told of each object, from a gateway that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from support.envoy import free_port
from support.stack import Stack, node, policy
from weighbridge_operator.report import ObjectReport, Report
from weighbridge_operator.views.words import reason_of
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy


def find(report: Report, name: str) -> ObjectReport:
    return next(each for each in report.objects if each.name == name)


def conditions(report: Report, name: str) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in find(report, name).conditions}


async def until(stack: Stack, true: Callable[[Report], bool]) -> Report:
    """The first report of which it is true."""
    version = 0
    async with asyncio.timeout(15):
        while True:
            report, version = await stack.reporter.reports.wait_newer(version)
            if report.objects and true(report):
                return report


async def test_conditions_follow_what_happens_to_a_node_and_to_its_file() -> None:
    async with Fleet([NodeSpec(name=name, models=(("m", "m"),), zero=True) for name in "ab"]) as fleet:
        a, b = (node(name, fleet.nodes[name].port, tier="high") for name in "ab")
        lonely = policy("lonely", nodes={"matchLabels": {"pool": "none"}})
        async with Stack(a, b, lonely) as stack:
            report = await until(stack, lambda r: find(r, "a").ready and find(r, "b").ready)
            assert conditions(report, "a")["Programmed"] == ("True", "Programmed")
            assert conditions(report, "lonely")["ResolvedRefs"] == ("False", "NoNodes")
            assert not find(report, "lonely").ready
            assert find(report, "a").endpoints[0].tier == "high"

            broken = node("b", 0, tier="high")
            stack.write(a, broken, lonely)
            report = await until(stack, lambda r: conditions(r, "b")["Accepted"] == ("False", "Invalid"))
            assert "still served" in next(c.message for c in find(report, "b").conditions if c.type == "Accepted")
            assert find(report, "b").endpoints

            stack.write(a, b, lonely)
            await until(stack, lambda r: find(r, "b").ready)
            fleet.nodes["a"].control({"down": True})
            async with aiohttp.ClientSession() as http:
                for _ in range(20):
                    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
                    async with http.post(f"{stack.url}/v1/chat/completions", json=body) as answer:
                        assert answer.status == 200
            # Its page is missed before Envoy is asked whether it ejected the node.
            report = await until(stack, lambda r: conditions(r, "a")["Ready"][1] == "OutOfService")
            (down,) = find(report, "a").endpoints
            assert down.healthy is False
            assert find(report, "b").ready
            refused = f"{down.address}/metrics cannot be connected to (Connection refused)"
            for told in (find(report, "a").conditions[-1].message, reason_of(find(report, "a"), down)):
                assert refused in told
            await until(
                stack, lambda r: reason_of(find(r, "a"), find(r, "a").endpoints[0]).startswith("out of service for 2")
            )


async def test_a_policy_is_ready_where_one_of_its_servers_can_be_asked() -> None:
    async with Fleet([NodeSpec(name=name, models=(("m", "m"),), zero=True) for name in "ab"]) as fleet:
        a, b = (node(name, fleet.nodes[name].port, health={"path": "/health", "interval": "1s"}) for name in "ab")
        async with Stack(a, b, policy("own", match={"models": ["m"]})) as stack:
            await until(stack, lambda r: find(r, "own").ready)
            fleet.nodes["a"].control({"down": True})
            report = await until(stack, lambda r: not find(r, "a").ready)
            assert find(report, "own").ready
            fleet.nodes["b"].control({"down": True})
            report = await until(stack, lambda r: not find(r, "own").ready)
            assert conditions(report, "own")["Ready"] == ("False", "NoNodeAvailable")
            assert "all 2 servers" in find(report, "own").conditions[-1].message
            fleet.nodes["b"].control({"down": False})
            await until(stack, lambda r: find(r, "own").ready)


async def test_a_node_that_a_policy_leaves_out_is_told_which() -> None:
    a, left = (node(name, free_port(), engine="openai", labels={"pool": name}) for name in ("a", "left"))
    async with Stack(a, left, policy("own", match={"models": ["m"]}, nodes={"matchLabels": {"pool": "a"}})) as stack:
        report = await until(stack, lambda r: conditions(r, "left")["Ready"] == ("False", "NotUsed"))
        message = find(report, "left").conditions[-1].message
        assert message.startswith("no request can reach it: RoutePolicy default/own speaks for")
