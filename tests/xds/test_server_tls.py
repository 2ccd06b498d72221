"""Who may ask over mutual TLS: an Envoy of this gateway, and nobody else in the cluster; rotation without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from support.gateway import make_assignment, make_cluster
from support.mounted import IDENTITY, NOW, Mounted, authority, envoy, server, side
from weighbridge_operator.latest import Latest
from weighbridge_operator.protection import Protection, protect
from weighbridge_operator.settings import SecuritySettings, Settings
from weighbridge_operator.trust.material import MaterialError
from weighbridge_operator.trust.minting import SERVER, Pair, issue
from weighbridge_operator.xds.kinds import CLUSTER
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import build

OURS, OTHERS = authority(), authority()


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    directory = Mounted(tmp_path / "tls")
    directory.put(side(server(OURS), OURS))
    return directory


@pytest.fixture
async def protection(mounted: Mounted) -> Protection:
    return await protect(Settings(paths=(), security=SecuritySettings(xds_directory=mounted.directory)))


@pytest.fixture
async def port(protection: Protection) -> AsyncIterator[int]:
    snapshots: Latest = Latest()
    snapshots.set(build(clusters=[make_cluster("c")], endpoints=[make_assignment("c", [9])]))
    serving = AdsServer("weighbridge", snapshots, identity=protection.identity)
    following = asyncio.create_task(protection.run())
    yield await serving.start("127.0.0.1:0", protection.credentials)
    following.cancel()
    await serving.stop(0.0)


async def ask(port: int, trusted: Pair, pair: Pair | None) -> int:
    """How many clusters this client is told; raises AioRpcError where it is turned away."""
    own = (pair.key_pem, pair.certificate_pem) if pair is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(trusted.certificate_pem, *own)
    named = (("grpc.ssl_target_name_override", "localhost"),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=named) as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources(timeout=10)
        await call.write(DiscoveryRequest(type_url=CLUSTER, node=Node(id="a", cluster="weighbridge")))
        async for response in call:
            return len(response.resources)
        return 0


async def test_an_envoy_of_this_gateway_is_served(port: int) -> None:
    assert await ask(port, OURS, envoy(OURS)) == 1


@pytest.mark.parametrize(
    ("stranger", "code"),
    [
        (None, grpc.StatusCode.UNAVAILABLE),
        (envoy(OTHERS), grpc.StatusCode.UNAVAILABLE),
        (envoy(OURS, days=1, now=NOW - timedelta(days=3)), grpc.StatusCode.UNAVAILABLE),
        (issue(OURS, NOW, SERVER, uris=[IDENTITY]), grpc.StatusCode.UNAVAILABLE),
        (envoy(OURS, "urn:weighbridge:envoy:other"), grpc.StatusCode.PERMISSION_DENIED),
        (envoy(OURS, f"{IDENTITY}2"), grpc.StatusCode.PERMISSION_DENIED),
    ],
    ids=["no certificate", "others' authority", "expired", "a server's", "another gateway's", "a longer name"],
)
async def test_a_stranger_gets_nothing(port: int, stranger: Pair | None, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(port, OURS, stranger)
    assert refused.value.code() is code
    if code is grpc.StatusCode.PERMISSION_DENIED:
        assert IDENTITY in (refused.value.details() or "")


async def test_plain_text_gets_nothing(port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        asked = iter([DiscoveryRequest(type_url=CLUSTER, node=Node(id="a", cluster="weighbridge"))])
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(aiter(stub.StreamAggregatedResources(asked, timeout=5)))


async def test_what_is_swapped_in_the_directory_is_used_and_what_is_broken_is_not(
    port: int, mounted: Mounted, protection: Protection
) -> None:
    first, version = await protection.material.wait_newer()
    mounted.put({**side(server(OTHERS), OTHERS), "tls.key": server(OTHERS).key_pem})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(protection.material.wait_newer(version), 1.5)
    assert await ask(port, OURS, envoy(OURS)) == 1
    mounted.put(side(server(OTHERS), OTHERS, OURS))
    await asyncio.wait_for(protection.material.wait_newer(version), 10)
    with pytest.raises(grpc.aio.AioRpcError):
        await ask(port, OURS, envoy(OURS))
    assert await ask(port, OTHERS, envoy(OURS)) == 1
    assert await ask(port, OTHERS, envoy(OTHERS)) == 1
    assert first != protection.material.get()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tls.crt": b""}, "no entry tls.crt"),
        ({"ca.crt": b"junk"}, "ca.crt holds no certificate"),
        ({"tls.key": b"junk"}, "tls.key holds no private key"),
        ({"tls.key": envoy(OURS).key_pem}, "tls.key does not belong"),
        ({"tls.crt": b"-----BEGIN CERTIFICATE-----\n" * 100}, "more than 64"),
        ({"tls.crt": b"x" * 300_000}, "larger than 256 KiB"),
    ],
)
async def test_nothing_opens_without_good_certificates(mounted: Mounted, change: dict[str, bytes], said: str) -> None:
    mounted.put(side(server(OURS), OURS) | change)
    with pytest.raises(MaterialError, match=said) as refused:
        await protect(Settings(paths=(), security=SecuritySettings(xds_directory=mounted.directory)))
    assert str(mounted.directory) in str(refused.value)
    assert "PRIVATE" not in str(refused.value)


async def test_an_expired_certificate_and_a_missing_directory_are_named(mounted: Mounted, tmp_path: Path) -> None:
    old = issue(OURS, NOW - timedelta(days=9), SERVER, dns=["localhost"], life=timedelta(days=2))
    mounted.put(side(old, OURS))
    with pytest.raises(MaterialError, match=r"tls\.crt has expired"):
        await protect(Settings(paths=(), security=SecuritySettings(xds_directory=mounted.directory)))
    with pytest.raises(MaterialError, match="No such file"):
        await protect(Settings(paths=(), security=SecuritySettings(xds_directory=tmp_path / "none")))
