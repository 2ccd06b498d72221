"""The ADS server with the real Envoy: what it holds, and that nothing is lost while it changes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp
import pytest

from support.envoy import RealEnvoy, free_port
from support.gateway import (
    Caller,
    Upstream,
    make_assignment,
    make_bootstrap,
    make_cluster,
    make_listener,
    make_routes,
)
from weighbridge_operator.latest import Latest
from weighbridge_operator.xds.envoys import EnvoyState, EnvoyStates
from weighbridge_operator.xds.kinds import CLUSTER, ROUTE
from weighbridge_operator.xds.recall import recall_over
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot, build
from weighbridge_operator.xds.warmth import ask_over

pytestmark = pytest.mark.envoy


class Gateway:
    """An ADS server, an Envoy, two upstreams, and the snapshots between them."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.snapshots: Latest[Snapshot] = Latest()
        self.http = http
        self.nodes = (Upstream("a"), Upstream("b"))
        self.server = self.make_server()
        self.port = 0

    def make_server(self) -> AdsServer:
        """A server that remembers nothing, as after a restart."""
        return AdsServer("test", self.snapshots, warmth=ask_over(self.http), recall=recall_over(self.http))

    async def __aenter__(self) -> Gateway:
        for node in self.nodes:
            await node.__aenter__()
        self.port = await self.server.start("127.0.0.1:0")
        admin = free_port()
        self.envoy = RealEnvoy(make_bootstrap(self.port, admin_port=admin), admin_port=admin)
        await self.envoy.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.envoy.stop()
        await self.server.stop(0.2)
        for node in self.nodes:
            await node.__aexit__()

    def offer(
        self,
        *clusters: str,
        weights: Sequence[int] = (1, 1),
        checked: bool = False,
        timeout: str = "1s",
        **extra: Any,
    ) -> Snapshot:
        """Publishes these clusters over both nodes, routed to in equal shares."""
        ports = [node.port for node in self.nodes]
        snapshot = build(
            clusters=[make_cluster(name, checked=checked, timeout=timeout) for name in clusters],
            endpoints=[make_assignment(name, ports, weights) for name in clusters],
            listeners=[make_listener("front", "routes")],
            routes=[extra.get("routes") or make_routes("routes", *clusters)],
        )
        self.snapshots.set(snapshot)
        return snapshot

    async def reach(self, wanted: Callable[[EnvoyState], bool]) -> EnvoyState:
        """Waits until the one Envoy's state is as wanted."""
        version, states = 0, EnvoyStates()
        async with asyncio.timeout(20):
            while not (states.envoys and wanted(states.envoys[0])):
                states, version = await self.server.states.wait_newer(version)
        return states.envoys[0]

    async def hold(self, snapshot: Snapshot) -> EnvoyState:
        """Waits until the Envoy holds all of this snapshot."""
        return await self.reach(
            lambda envoy: envoy.current and all(k.wanted == snapshot.versions[k.kind] for k in envoy.kinds)
        )

    async def updates(self) -> dict[str, int]:
        """How often Envoy really took something in."""
        names = {
            "clusters": "cluster_manager.cluster_(added|modified|removed)",
            "listeners": "listener_manager.listener_(added|modified|removed)",
            "routes": "http.front.rds.routes.config_reload",
            "discovery": "(cluster_manager.cds|listener_manager.lds).update_success",
        }
        counts = {}
        for name, pattern in names.items():
            lines = (await self.envoy.admin(f"/stats?filter=^{pattern}$")).splitlines()
            counts[name] = sum(int(line.rpartition(": ")[2]) for line in lines)
        return counts


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with aiohttp.ClientSession() as http, Gateway(http) as running:
        yield running


async def test_a_server_that_knows_nothing_says_nothing(gateway: Gateway) -> None:
    state = await gateway.reach(lambda envoy: envoy.id == "envoy-1")
    assert (state.kinds, state.build, state.stats) == ((), "1.40.0", gateway.envoy.admin_url)
    assert await gateway.envoy.stat("cluster_manager.cds.update_attempt") == 1
    assert await gateway.envoy.stat("cluster_manager.cds.update_success") == 0
    snapshot = gateway.offer("one")
    await gateway.hold(snapshot)
    async with Caller(await gateway.envoy.listener_port()) as caller:
        await caller.wait_for(5)
    assert caller.lost == []


async def test_a_load_change_touches_endpoints_alone(gateway: Gateway) -> None:
    await gateway.hold(gateway.offer("one", "two"))
    before = await gateway.updates()
    assert all(before.values())
    for weight in range(2, 7):
        await gateway.hold(gateway.offer("one", "two", weights=(weight, 1)))
    assert await gateway.updates() == before
    text = await gateway.envoy.admin("/clusters?format=json")
    hosts = next(c for c in json.loads(text)["cluster_statuses"] if c["name"] == "one")["host_statuses"]
    assert sorted(host["weight"] for host in hosts) == [1, 6]


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "health-checked"])
async def test_clusters_come_change_and_go_under_load(gateway: Gateway, checked: bool) -> None:
    await gateway.hold(gateway.offer("one", checked=checked))
    async with Caller(await gateway.envoy.listener_port()) as caller:
        for clusters, timeout in [
            (("one", "two"), "1s"),
            (("one", "two"), "2s"),
            (("three", "two"), "2s"),
            (("four",), "2s"),
            (("one", "five"), "1s"),
        ]:
            await caller.wait_for(10)
            await gateway.hold(gateway.offer(*clusters, checked=checked, timeout=timeout))
        await caller.wait_for(10)
    assert caller.lost == []
    dump = json.loads(await gateway.envoy.admin("/config_dump?resource=dynamic_active_clusters"))
    assert {entry["cluster"]["name"] for entry in dump["configs"]} == {"one", "five"}


async def test_a_restarted_server_loses_nothing_and_is_found_again_within_a_second(gateway: Gateway) -> None:
    snapshot = gateway.offer("one")
    await gateway.hold(snapshot)
    before = await gateway.updates()
    async with Caller(await gateway.envoy.listener_port()) as caller:
        await caller.wait_for(20)
        await gateway.server.stop(0.0)
        await caller.wait_for(60)
        gateway.server = gateway.make_server()
        await gateway.server.start(f"127.0.0.1:{gateway.port}")
        began = time.monotonic()
        await gateway.hold(snapshot)
        took = time.monotonic() - began
        await caller.wait_for(20)
    assert caller.lost == []
    assert took < 1.5, "the bound on the back-off is 1 s"
    after = await gateway.updates()
    assert {name: after[name] for name in ("clusters", "listeners", "routes")} == {
        name: before[name] for name in ("clusters", "listeners", "routes")
    }


async def test_a_refused_route_is_told_and_the_rest_goes_on(gateway: Gateway) -> None:
    first = gateway.offer("one")
    await gateway.hold(first)
    async with Caller(await gateway.envoy.listener_port()) as caller:
        broken = make_routes("routes", "one")
        broken.virtual_hosts[0].routes[0].match.safe_regex.regex = "(["
        gateway.offer("one", "two", routes=broken, weights=(3, 1))
        state = await gateway.reach(lambda envoy: any(kind.refusals for kind in envoy.kinds))
        kinds = {kind.kind: kind for kind in state.kinds}
        ((name, refusal),) = kinds[ROUTE].refusals
        assert name == "routes"
        assert "missing ]" in refusal.text
        assert kinds[ROUTE].accepted == first.versions[ROUTE]
        rejected = await gateway.envoy.stat("http.front.rds.routes.update_rejected")
        await gateway.reach(lambda envoy: {k.kind for k in envoy.kinds if not k.current} == {ROUTE})
        assert await gateway.envoy.stat("http.front.rds.routes.update_rejected") == rejected == 1
        await gateway.hold(gateway.offer("one", "two"))
        await caller.wait_for(20)
    assert caller.lost == []


async def test_one_refused_cluster_among_many_disturbs_no_other(gateway: Gateway) -> None:
    await gateway.hold(gateway.offer("one"))
    async with Caller(await gateway.envoy.listener_port()) as caller:
        names = ["one", "two", "three"]
        bad = make_cluster("bad")
        bad.lb_policy = bad.CLUSTER_PROVIDED
        ports = [node.port for node in gateway.nodes]
        snapshot = build(
            clusters=[*(make_cluster(name) for name in names), bad],
            endpoints=[make_assignment(name, ports) for name in [*names, "bad"]],
            listeners=[make_listener("front", "routes")],
            routes=[make_routes("routes", *names)],
        )
        gateway.snapshots.set(snapshot)
        state = await gateway.reach(
            lambda envoy: {k.kind: k.accepted for k in envoy.kinds}.get(ROUTE) == snapshot.versions[ROUTE]
        )
        await caller.wait_for(20)
    clusters = next(kind for kind in state.kinds if kind.kind == CLUSTER)
    assert [name for name, _ in clusters.refusals] == ["bad"]
    assert "cluster provided LB specified" in clusters.refusals[0][1].text
    assert caller.lost == []


async def test_a_change_made_while_the_server_was_away_loses_nothing(gateway: Gateway) -> None:
    before = gateway.offer("one", "two")
    await gateway.hold(before)
    memory = await recall_over(gateway.http)(gateway.envoy.admin_url)
    assert memory is not None
    assert memory.held == {CLUSTER: before.clusters, ROUTE: before.routes}
    async with Caller(await gateway.envoy.listener_port()) as caller:
        await caller.wait_for(20)
        await gateway.server.stop(0.0)
        snapshot = gateway.offer("three", checked=True)
        gateway.server = gateway.make_server()
        await gateway.server.start(f"127.0.0.1:{gateway.port}")
        await gateway.hold(snapshot)
        await caller.wait_for(20)
    assert caller.lost == []
