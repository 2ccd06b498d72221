"""The ADS server over real gRPC: who is served, who is sent away, and that it comes and goes cleanly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse
from google.protobuf.json_format import ParseDict

from support.gateway import make_assignment, make_cluster, make_listener, make_routes
from weighbridge_operator.latest import Latest
from weighbridge_operator.xds.envoys import EnvoyStates
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT
from weighbridge_operator.xds.server import AddressUnavailableError, AdsServer
from weighbridge_operator.xds.session import NAMES, read_node
from weighbridge_operator.xds.snapshot import Snapshot, build


def one_cluster(*, weight: int = 1, padding: int = 0) -> Snapshot:
    cluster = make_cluster("one")
    cluster.alt_stat_name = "x" * padding
    return build(
        clusters=[cluster],
        endpoints=[make_assignment("one", [8000, 8001], [weight, 1])],
        listeners=[make_listener("front", "routes")],
        routes=[make_routes("routes", "one")],
    )


class Client:
    """An Envoy by hand."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=(("grpc.max_receive_message_length", -1),)
        )
        self.stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self.channel)

    def connect(self) -> Any:
        return self.stub.StreamAggregatedResources()

    async def start(self, name: str = "envoy-1", gateway: str = "test") -> Any:
        call = self.connect()
        await call.write(DiscoveryRequest(type_url=CLUSTER, node=Node(id=name, cluster=gateway)))
        return call


@pytest.fixture
async def server() -> AsyncIterator[AdsServer]:
    serving = AdsServer("test", Latest())
    yield serving
    await serving.stop(0.0)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Latest[Snapshot]], AdsServer]]:
    """Makes servers and stops them even where a test fails: one that is left keeps the interpreter from ending."""
    async with AsyncExitStack() as running:

        def make(snapshots: Latest[Snapshot]) -> AdsServer:
            serving = AdsServer("test", snapshots)
            running.push_async_callback(serving.stop, 0.0)
            return serving

        yield make


@pytest.fixture
async def client(server: AdsServer) -> AsyncIterator[Client]:
    connected = Client(await server.start("127.0.0.1:0"))
    yield connected
    await connected.channel.close()


async def accept(call: Any, response: DiscoveryResponse) -> None:
    kind, version = response.type_url, response.version_info
    await call.write(DiscoveryRequest(type_url=kind, version_info=version, response_nonce=response.nonce))


async def wait_for(
    server: AdsServer, *names: str, until: Callable[[EnvoyStates], bool] = lambda _: True
) -> EnvoyStates:
    version, states = 0, EnvoyStates()
    async with asyncio.timeout(10):
        while [envoy.id for envoy in states.envoys] != list(names) or version == 0 or not until(states):
            states, version = await server.states.wait_newer(version)
    return states


async def test_an_envoy_of_another_gateway_is_told_so(client: Client) -> None:
    call = await client.start(gateway="other")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await anext(aiter(call))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "'other'" in (raised.value.details() or "")
    assert "'test'" in (raised.value.details() or "")


async def test_delta_is_unimplemented(client: Client) -> None:
    call = client.stub.DeltaAggregatedResources()
    with pytest.raises(grpc.aio.AioRpcError) as raised:  # noqa: PT012
        # The answer may come while this is being written.
        await call.write(DeltaDiscoveryRequest(type_url=CLUSTER))
        await anext(aiter(call))
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_is_a_clear_error(server: AdsServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailableError, match=f"127.0.0.1:{port}"):
            await server.start(f"127.0.0.1:{port}")


async def test_two_servers_never_share_a_port(server: AdsServer) -> None:
    port = await server.start("127.0.0.1:0")
    with pytest.raises(AddressUnavailableError):
        await AdsServer("test", Latest()).start(f"127.0.0.1:{port}")


async def test_states_come_and_go_with_the_envoys(server: AdsServer, client: Client) -> None:
    first, second = await client.start("b"), await client.start("a")
    states = await wait_for(server, "a", "b")
    assert all(envoy.kinds == () and not envoy.current for envoy in states.envoys)
    first.cancel()
    await wait_for(server, "a")
    second.cancel()
    await wait_for(server)


async def test_stopping_ends_the_streams_and_frees_the_port(server: AdsServer) -> None:
    port = await server.start("127.0.0.1:0")
    client = Client(port)
    call = await client.start()
    await wait_for(server, "envoy-1")
    async with asyncio.timeout(2):
        await server.stop(grace=10.0)
        assert await call.read() is grpc.aio.EOF
    await client.channel.close()
    again = AdsServer("test", Latest())
    assert await again.start(f"127.0.0.1:{port}") == port
    await again.stop(0.0)


async def test_what_an_envoy_refused_is_not_sent_to_it_on_its_next_stream(
    serve: Callable[[Latest[Snapshot]], AdsServer],
) -> None:
    snapshots: Latest[Snapshot] = Latest()
    snapshots.set(one_cluster())
    server = serve(snapshots)
    client = Client(await server.start("127.0.0.1:0"))
    call = await client.start()
    refused = await call.read()
    assert len(refused.resources) == 1
    nack = DiscoveryRequest(type_url=CLUSTER, response_nonce=refused.nonce)
    nack.error_detail.message = "no good"
    await call.write(nack)
    assert len((await call.read()).resources) == 0
    known = await wait_for(server, "envoy-1", until=lambda s: any(k.refusals for k in s.envoys[0].kinds))
    (envoy,) = known.envoys
    assert [refusal.text for _, refusal in envoy.kinds[0].refusals] == ["no good"]
    call.cancel()
    await wait_for(server)
    assert len((await (await client.start()).read()).resources) == 0
    assert len((await (await client.start("envoy-2")).read()).resources) == 1, "another Envoy may accept it"
    await client.channel.close()


async def test_an_envoy_that_does_not_read_delays_no_other(serve: Callable[[Latest[Snapshot]], AdsServer]) -> None:
    snapshots: Latest[Snapshot] = Latest()
    server = serve(snapshots)
    port = await server.start("127.0.0.1:0")
    frozen, lively = Client(port), Client(port)
    stuck = await frozen.start("frozen")
    call = await lively.start("lively")
    await wait_for(server, "frozen", "lively")
    async with asyncio.timeout(10):
        for padding in range(2**20, 2**20 + 8):
            snapshots.set(one_cluster(padding=padding))
            response = await call.read()
            assert len(response.resources[0].value) > padding
            await accept(call, response)
    stuck.cancel()
    for client in (frozen, lively):
        await client.channel.close()


@pytest.mark.parametrize("earlier", [0, 1])
async def test_a_request_for_more_names_than_any_envoy_has_ends_its_stream(client: Client, earlier: int) -> None:
    call = client.connect()
    who = Node(id="greedy", cluster="test")
    for _ in range(earlier):
        await call.write(DiscoveryRequest(type_url=ENDPOINT, node=who, resource_names=["one"]))
    await call.write(DiscoveryRequest(type_url=ENDPOINT, node=who, resource_names=["x"] * (NAMES + 1)))
    async with asyncio.timeout(10):
        assert await call.read() is grpc.aio.EOF


async def test_a_load_change_reaches_a_stream_as_one_assignment(serve: Callable[[Latest[Snapshot]], AdsServer]) -> None:
    snapshots: Latest[Snapshot] = Latest()
    snapshots.set(one_cluster())
    server = serve(snapshots)
    client = Client(await server.start("127.0.0.1:0"))
    call = await client.start()
    await accept(call, await call.read())
    await call.write(DiscoveryRequest(type_url=ENDPOINT, resource_names=["one"]))
    first = await call.read()
    await call.write(
        DiscoveryRequest(
            type_url=ENDPOINT, version_info=first.version_info, response_nonce=first.nonce, resource_names=["one"]
        )
    )
    snapshots.set(one_cluster(weight=7))
    second = await call.read()
    assert (second.type_url, len(second.resources)) == (ENDPOINT, 1)
    assert second.version_info not in ("", first.version_info)
    await client.channel.close()


def says(statistics: str, name: str = "e") -> Node:
    told = {"id": name, "cluster": "test", "metadata": {"weighbridge": {"stats": statistics}}}
    return cast(Node, ParseDict(told, Node()))


async def test_nobody_sends_the_operator_anywhere_but_to_its_own_address(server: AdsServer, client: Client) -> None:
    """What is asked is a page of who is connected: 192.0.2.1 is nobody's, the caller comes from 127.0.0.1."""
    asked: list[str] = []

    async def recall(stats: str) -> None:
        asked.append(stats)

    server._ask_back = recall
    for told in ("http://192.0.2.1:80", "http://localhost:9901", "http://127.0.0.1:9901/quitquitquit"):
        call = client.connect()
        await call.write(DiscoveryRequest(type_url=CLUSTER, node=says(told), version_info="1"))
        found = (await wait_for(server, "e")).envoys[0]
        assert found.stats is None
        assert found.doubt is not None
        assert told.partition("//")[2].partition(":")[0] in found.doubt
        call.cancel()
        await wait_for(server)
    assert asked == []
    call = client.connect()
    node = says("http://127.0.0.1:9901", "another")
    await call.write(DiscoveryRequest(type_url=CLUSTER, node=node, version_info="1"))
    found = (await wait_for(server, "another")).envoys[0]
    assert (found.stats, found.doubt) == ("http://127.0.0.1:9901", None)
    assert asked == ["http://127.0.0.1:9901"]


async def test_an_envoy_that_was_told_more_by_another_operator_is_asked_what_it_holds(
    server: AdsServer, client: Client
) -> None:
    asked: list[str] = []

    async def recall(_: str) -> None:
        asked.append(version)

    server._ask_back = recall
    for version in ("1", "1", "2", "2"):
        call = client.connect()
        await call.write(DiscoveryRequest(type_url=CLUSTER, node=says("http://127.0.0.1:9901"), version_info=version))
        await wait_for(server, "e")
        call.cancel()
        await wait_for(server)
    assert asked == ["1", "2"]


def test_an_envoy_that_says_nothing_of_statistics_is_not_doubted() -> None:
    node = read_node(Node(id="e"), "ipv4:127.0.0.1:1")
    assert (node.stats, node.doubt) == (None, None)
