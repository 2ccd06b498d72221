"""What nodes refer to, on a real API server: Services, endpoints, Secrets; each is read as little as needed."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from support.apiproxy import empty
from support.apiproxy import refuse as refuse_all
from support.apiserver import ApiServer, locate
from support.watched import LIMIT, Watched
from weighbridge_operator.sources.kube import secrets
from weighbridge_operator.sources.kube.access import TIMEOUT
from weighbridge_operator.state import DesiredState, ServiceEndpoint


@pytest.fixture
async def watched(
    api_server: ApiServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Watched]:
    async with Watched(api_server, namespace, tmp_path, monkeypatch) as made:
        yield made


def service(watched: Watched, name: str = "qwen", *ports: dict[str, Any]) -> dict[str, Any]:
    spec = {"clusterIP": "None", "ports": list(ports) or [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": describe(watched, name), "spec": spec}


def describe(watched: Watched, name: str, **labels: str) -> dict[str, Any]:
    return {"name": name, "namespace": watched.namespace, "labels": labels}


def piece(
    watched: Watched, name: str, *pods: str, of: str = "qwen", ready: bool = True, family: str = "IPv4"
) -> dict[str, Any]:
    """An EndpointSlice with these pods, each with an address made of its last digit."""
    start = "10.1.0." if family == "IPv4" else "fd00::"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": describe(watched, name, **{"kubernetes.io/service-name": of}),
        "addressType": family,
        "ports": [{"name": "", "port": 8000, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [start + pod[-1]],
                "conditions": {"ready": ready, "serving": True, "terminating": not ready},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": watched.namespace},
            }
            for pod in pods
        ],
    }


def backed(watched: Watched, name: str = "a", of: str = "qwen") -> dict[str, Any]:
    return watched.node(name, address=None, service={"name": of, "port": 80})


def pods(watched: Watched, desired: DesiredState, of: str = "qwen") -> list[tuple[str, str, bool]]:
    state = desired.services.get((watched.namespace, of))
    return [(e.pod, e.address, e.ready) for e in state.endpoints] if state else []


async def test_a_network_that_loses_everything_makes_endpoints_wait_no_longer_than_objects(watched: Watched) -> None:
    """No word comes that the connections of the watches are dead; without our own question it takes 75 s."""
    await watched.apply(service(watched), piece(watched, "s-1", "pod-1"), backed(watched))
    await watched.begin()
    await watched.until(lambda desired: pods(watched, desired))

    def is_followed(which: str) -> bool:
        return any(path.endswith(which) and "watch=" in query for _, path, query in watched.proxy.asked)

    while not (is_followed("/endpointslices") and is_followed("/modelnodes")):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    watched.proxy.freeze()
    await watched.apply(piece(watched, "s-1", "pod-2"), watched.node("b"))
    await asyncio.sleep(TIMEOUT + 2.0)
    assert [pod for pod, *_ in pods(watched, watched.desired)] == ["pod-1"]
    already = len(watched.proxy.asked)
    watched.proxy.thaw()
    changed = [("pod-2", "10.1.0.2", True)]
    await watched.until(lambda desired: pods(watched, desired) == changed and len(watched.names) == 2, TIMEOUT + 3.0)
    asked = [
        query for _, path, query in watched.proxy.asked[already:] if path.endswith(("/endpointslices", "/services"))
    ]
    assert len(asked) == 2
    assert all("watch=" in query for query in asked)  # they go on from where they were; nothing is listed


async def test_endpoints_are_there_from_the_first_moment_and_are_followed(watched: Watched) -> None:
    await watched.apply(service(watched), piece(watched, "s-1", "pod-1"), backed(watched))
    await watched.begin()
    found = await watched.until(lambda _: True)
    endpoint = ServiceEndpoint("10.1.0.1", "pod-1", (("", 8000),), ready=True)
    assert found.services[watched.namespace, "qwen"].endpoints == (endpoint,)
    assert found.services[watched.namespace, "qwen"].ports == (("", 80),)
    await watched.apply(piece(watched, "s-2", "pod-2"), piece(watched, "s-1", "pod-1", ready=False))
    both = [("pod-1", "10.1.0.1", False), ("pod-2", "10.1.0.2", True)]
    await watched.until(lambda desired: pods(watched, desired) == both)
    await watched.delete(piece(watched, "s-1"))
    await watched.until(lambda desired: pods(watched, desired) == both[1:])


async def test_a_pod_of_two_families_counts_once(watched: Watched) -> None:
    six = piece(watched, "s-6", "pod-1", family="IPv6")
    await watched.apply(service(watched), six, piece(watched, "s-4", "pod-1"), backed(watched))
    await watched.begin()
    assert pods(watched, await watched.until(lambda _: True)) == [("pod-1", "10.1.0.1", True)]
    await watched.delete(piece(watched, "s-4"))
    await watched.until(lambda desired: pods(watched, desired) == [("pod-1", "fd00::1", True)])


async def test_only_what_a_node_names_is_kept_and_a_node_that_names_more_brings_it(watched: Watched) -> None:
    other = [service(watched, "other"), piece(watched, "o-1", "pod-9", of="other")]
    await watched.apply(*other, service(watched), piece(watched, "s-1", "pod-1"), watched.node("plain"))
    await watched.begin()
    await watched.until(lambda _: True)
    assert not any("endpointslices" in path or "/services" in path for _, path, _ in watched.proxy.asked)
    await watched.apply(backed(watched))
    found = await watched.until(lambda desired: len(desired.nodes) == 2)
    assert list(found.services) == [(watched.namespace, "qwen")]
    await watched.apply(backed(watched, "b", of="other"), backed(watched, "c", of="nowhere"))
    await watched.until(lambda desired: len(desired.nodes) == 4)
    await watched.until(lambda desired: pods(watched, desired, "other") == [("pod-9", "10.1.0.9", True)])
    assert (watched.namespace, "nowhere") not in watched.desired.services


async def test_an_api_server_that_is_away_takes_no_endpoint_and_no_secret_away(watched: Watched) -> None:
    reference = {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}}
    made = watched.node("a", address=None, service={"name": "qwen", "port": 80}, **reference)
    await watched.apply(service(watched), piece(watched, "s-1", "pod-1"), secret(watched, "provider", apiKey="x"), made)
    await watched.begin()
    await watched.until(lambda desired: desired.nodes)
    watched.proxy.lie = refuse_all
    watched.proxy.cut()
    before = len(watched.proxy.asked)
    while len(watched.proxy.asked) < before + 20:
        assert pods(watched, watched.desired)
        assert watched.desired.secrets
        await asyncio.sleep(0.02)
    watched.proxy.lie = None
    began = time.monotonic()
    await watched.apply(piece(watched, "s-2", "pod-2"))
    await watched.until(lambda desired: len(pods(watched, desired)) == 2)
    assert time.monotonic() - began < LIMIT / 2


async def test_a_list_of_endpoints_that_is_empty_once_takes_none_away(watched: Watched) -> None:
    await watched.apply(service(watched), piece(watched, "s-1", "pod-1"), backed(watched))
    await watched.begin()
    await watched.until(lambda desired: pods(watched, desired))
    watched.proxy.lie = empty("endpointslices")
    # Another Service is named, so that everything is listed anew.
    await watched.apply(service(watched, "more"), backed(watched, "b", of="more"))
    await watched.until(lambda desired: (watched.namespace, "more") in desired.services)
    assert pods(watched, watched.desired)
    await watched.apply(piece(watched, "s-2", "pod-2"))
    await watched.until(lambda desired: len(pods(watched, desired)) == 2)


def secret(watched: Watched, name: str, **entries: str) -> dict[str, Any]:
    data = {entry: base64.b64encode(value.encode()).decode() for entry, value in entries.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": describe(watched, name), "data": data}


async def test_secrets_are_read_by_name_and_a_rotation_is_noticed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "PERIOD", 0.3)
    reference = {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}}
    await watched.apply(secret(watched, "unrelated", apiKey="x"), watched.node("a", **reference))
    await watched.apply(secret(watched, "provider", apiKey="first", password="not asked for"))
    await watched.begin()
    key = (watched.namespace, "provider")
    assert (await watched.until(lambda _: True)).secrets == {key: {"apiKey": b"first"}}
    await watched.apply(secret(watched, "provider", apiKey="second"))
    await watched.until(lambda desired: desired.secrets[key] == {"apiKey": b"second"})
    await watched.delete(secret(watched, "provider"))
    await watched.until(lambda desired: not desired.secrets)
    asked = {(path, query) for _, path, query in watched.proxy.asked if "/secrets" in path}
    assert asked == {(locate(secret(watched, "provider")), "")}


async def test_a_secret_that_may_not_be_read_for_a_moment_stays(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "PERIOD", 0.1)
    monkeypatch.setattr(secrets, "PAUSE", 0.05)
    reference = {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}}
    await watched.apply(secret(watched, "provider", apiKey="first"), watched.node("a", **reference))
    await watched.begin()
    await watched.until(lambda desired: desired.secrets)
    refused = 0

    def refuse(_: str, path: str, __: str) -> Any:
        nonlocal refused
        refused += path.endswith("/secrets/provider")
        return web.Response(status=403, text="{}") if path.endswith("/secrets/provider") else None

    watched.proxy.lie = refuse
    while refused < 2 * secrets.REFUSALS:
        await watched.until(lambda desired: desired.secrets)
        await asyncio.sleep(0.02)
    assert watched.desired.secrets


async def test_watches_that_end_at_once_are_not_begun_hundreds_of_times_a_second(watched: Watched) -> None:
    await watched.apply(service(watched), watched.node("a", address=None, service={"name": "qwen", "port": 80}))
    await watched.begin()
    await watched.until(lambda desired: desired.services)

    def cut_off(_: str, path: str, query: str) -> web.Response | None:
        return web.Response(text="") if "watch=" in query and path.endswith("/endpointslices") else None

    watched.proxy.lie = cut_off
    watched.proxy.cut()
    began, already = time.monotonic(), len(watched.proxy.asked)
    while sum("/endpointslices" in path for _, path, _ in watched.proxy.asked[already:]) < 6:
        assert time.monotonic() - began < LIMIT
        await asyncio.sleep(0.01)
    assert time.monotonic() - began > 1.5


async def test_the_gateways_own_envoys_are_known_by_their_addresses(watched: Watched) -> None:
    await watched.apply(service(watched, "envoys"), piece(watched, "envoys-1", "pod-1", "pod-2", of="envoys"))
    await watched.begin(envoys="envoys")
    found = await watched.until(lambda desired: len(desired.envoys) == 2)
    assert found.envoys == {"10.1.0.1", "10.1.0.2"}
    assert found.services == {}
