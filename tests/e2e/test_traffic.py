"""Requests go where there is room, and none is lost whatever ends: a node, an operator, both operators, an Envoy."""

from __future__ import annotations

import asyncio

import pytest

from support.clients import Traffic, connect, stream
from support.cluster import RELEASE, Cluster
from support.release import install

pytestmark = pytest.mark.e2e
OPERATOR, ENVOY = f"{RELEASE}-operator", f"{RELEASE}-envoy"


async def test_every_pod_gets_its_part(cluster: Cluster, gateway: str) -> None:
    async with Traffic(gateway, rate=15, tokens=24) as traffic:
        await traffic.wait_for(300)
        await traffic.finish()
    assert traffic.lost == []
    (large,), small = cluster.pods("demo-large"), cluster.pods("demo-small")
    got = {pod: sum(n for node, n in traffic.by_node.items() if pod in node) for pod in (large, *small)}
    assert all(got.values()), got
    assert got[large] > max(got[pod] for pod in small), got


async def test_a_dead_node_costs_no_request(cluster: Cluster, gateway: str) -> None:
    async with Traffic(gateway) as traffic:
        await traffic.wait_for(30)
        victim = cluster.pods("demo-small")[0]
        await asyncio.to_thread(cluster.kubectl, "delete", "pod", victim, "--grace-period=0", "--force")
        await traffic.wait_for(150)
        await traffic.finish()
    assert traffic.lost == []


async def test_a_roll_of_the_operator_costs_no_request(cluster: Cluster, gateway: str) -> None:
    before = cluster.pods("operator")
    async with Traffic(gateway) as traffic:
        await traffic.wait_for(20)
        await asyncio.to_thread(install, cluster, "--set=operator.logLevel=debug")
        await traffic.wait_for(50)
        await traffic.finish()
    assert traffic.lost == []
    assert not set(before) & set(cluster.pods("operator"))


async def test_without_any_operator_requests_go_on(cluster: Cluster, gateway: str) -> None:
    async with Traffic(gateway) as traffic:
        await asyncio.to_thread(cluster.kubectl, "scale", f"deployment/{OPERATOR}", "--replicas=0")
        await asyncio.to_thread(
            cluster.kubectl,
            "wait",
            "--for=delete",
            "pod",
            "-l",
            "app.kubernetes.io/component=operator",
            "--timeout=60s",
        )
        await traffic.wait_for(250)
        await asyncio.to_thread(cluster.kubectl, "scale", f"deployment/{OPERATOR}", "--replicas=2")
        await asyncio.to_thread(cluster.wait_rolled, OPERATOR)
        await traffic.wait_for(50)
        await traffic.finish()
    assert traffic.lost == []


async def test_a_roll_of_envoy_cuts_no_stream_and_costs_no_request(cluster: Cluster, gateway: str) -> None:
    before = cluster.pods("envoy")
    begun = asyncio.Semaphore(0)
    async with connect(gateway) as ai, Traffic(gateway) as traffic:
        streams = [asyncio.create_task(stream(ai, 1200, begun)) for _ in range(8)]
        for _ in streams:
            await asyncio.wait_for(begun.acquire(), 60)
        await asyncio.to_thread(cluster.restart, ENVOY)
        under_way = sum(not each.done() for each in streams)
        parts = await asyncio.gather(*streams)
        await traffic.wait_for(30)
        await traffic.finish()
    assert under_way > 0, "the streams were too short to prove anything"
    assert all(count > 10 for count in parts)
    assert traffic.lost == []
    assert not set(before) & set(cluster.pods("envoy"))
