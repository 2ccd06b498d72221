"""Conditions on objects of a real API server, written by operators that run as processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from support.apiserver import ApiServer, call, locate
from support.corpus import build_node
from support.installed import MODEL, Installed
from support.replica import Replica, find_own_address
from weighbridge_operator.xds.kinds import CLUSTER, LISTENER

PROMISE = 5.0  # seconds until a fault is on its object
LIMIT = 45.0  # seconds; a busy machine


def node(namespace: str, name: str, host: str = "10.0.3.7", **spec: Any) -> dict[str, Any]:
    made = build_node({"engine": "openai", "address": {"host": host, "port": 8000}, **spec})
    made["metadata"] |= {"name": name, "namespace": namespace}
    return made


def condition(server: ApiServer, document: dict[str, Any], kind: str) -> dict[str, Any]:
    status = server.request("GET", locate(document)).get("status", {})
    return next((each for each in status.get("conditions", ()) if each["type"] == kind), {})


def until(done: Callable[[], bool], limit: float = LIMIT) -> float:
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < limit, "not in time"
        time.sleep(0.05)
    return time.monotonic() - began


def holder(server: ApiServer, namespace: str) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    return next((item["spec"]["holderIdentity"] for item in server.request("GET", path)["items"]), "")


def create_many(server: ApiServer, namespace: str, count: int) -> None:
    def create(number: int) -> None:
        document = node(namespace, f"n{number:04}", f"10.1.{number // 250}.{number % 250 + 1}")
        path = f"/apis/weighbridge.dev/v1alpha1/namespaces/{namespace}/modelnodes"
        call(server.api, "POST", path, document)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(count)))


def test_a_fault_is_on_its_object_within_seconds_among_a_thousand(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    create_many(api_server, namespace, 1000)
    good, wrong = node(namespace, "n0000", "10.1.0.1"), node(namespace, "wrong", "127.0.0.1")
    with Replica(api_server, namespace, "one", tmp_path) as replica:
        replica.wait_published()
        until(lambda: holder(api_server, namespace) == "one")
        # The first statuses of a thousand objects are still being written.
        api_server.apply(wrong)
        took = until(lambda: condition(api_server, wrong, "Accepted").get("status") == "False")
        assert took < PROMISE
        said = condition(api_server, wrong, "Accepted")
        assert (said["reason"], said["observedGeneration"]) == ("AddressRefused", 1)
        assert condition(api_server, wrong, "Ready")["status"] == "False"
        # Mended, and told of the new form.
        api_server.apply(node(namespace, "wrong", "10.0.9.9"))
        took = until(lambda: condition(api_server, wrong, "Accepted").get("status") == "True")
        assert condition(api_server, wrong, "Accepted")["observedGeneration"] == 2
        report = replica.read_status()
        assert report["writer"]["leads"]
        assert report["writer"]["holder"] == "one"
        assert len([o for o in report["objects"] if o["kind"] == "ModelNode"]) == 1001
        assert api_server.request("GET", locate(good))["metadata"]["generation"] == 1
    print(f"a fault among 1,000: {took:.2f} s")


def test_when_the_leader_is_killed_another_goes_on(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    api_server.apply(node(namespace, "a"))
    with Replica(api_server, namespace, "one", tmp_path) as one:
        until(lambda: holder(api_server, namespace) == "one")
        with Replica(api_server, namespace, "two", tmp_path) as two:
            two.wait_published()
            one.kill()
            assert until(lambda: holder(api_server, namespace) == "two") < 20
            wrong = node(namespace, "wrong", "127.0.0.1")
            api_server.apply(wrong)
            until(lambda: condition(api_server, wrong, "Accepted").get("status") == "False")
        # A clean end gives the Lease back.
        assert holder(api_server, namespace) == ""


@pytest.mark.parametrize("kind", ["modelnodes", "routepolicies"])
def test_nothing_is_stuck_in_deletion_with_the_operator_gone(
    api_server: ApiServer, namespace: str, tmp_path: Path, kind: str
) -> None:
    objects = [node(namespace, "a"), {**node(namespace, "p"), "kind": "RoutePolicy", "spec": {}}]
    for document in objects:
        api_server.apply(document)
    with Replica(api_server, namespace, "one", tmp_path) as one:
        until(lambda: all(condition(api_server, document, "Ready") for document in objects))
        one.kill()
    path = f"/apis/weighbridge.dev/v1alpha1/namespaces/{namespace}/{kind}"
    api_server.request("DELETE", path)
    assert api_server.request("GET", path)["items"] == []


async def refuse_clusters(port: int) -> None:
    """An Envoy by hand that takes no cluster, and all else; until cancelled."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
        for kind in (CLUSTER, LISTENER):
            await call.write(DiscoveryRequest(type_url=kind, node=Node(id="refuser", cluster="weighbridge")))
        async for response in call:
            answer = DiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            if response.type_url == CLUSTER and response.resources:
                answer.error_detail.message = "this build knows no such cluster"
            else:
                answer.version_info = response.version_info
            await call.write(answer)


async def test_what_an_envoy_says_is_told_by_the_replica_that_heard_it(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    """Though another one writes the statuses."""

    def heard() -> bool:
        events = api_server.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        return any(
            event["involvedObject"]["name"] == "a"
            and event["reason"] == "Refused"
            and "this build knows no such cluster" in event["message"]
            and event["reportingInstance"] == "two"
            for event in events
        )

    api_server.apply(node(namespace, "a"))
    with ExitStack() as running:
        running.enter_context(Replica(api_server, namespace, "one", tmp_path))
        await asyncio.to_thread(until, lambda: holder(api_server, namespace) == "one")
        two = running.enter_context(Replica(api_server, namespace, "two", tmp_path))
        await asyncio.to_thread(two.wait_published)
        refusing = asyncio.create_task(refuse_clusters(two.xds))
        await asyncio.to_thread(until, heard)
        refusing.cancel()


def test_a_new_operator_begins_with_the_weights_of_the_last_one(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    """Though what they were made of, others' load, is not to be seen any more."""
    for name, capacity in (("a", 4), ("b", 1)):
        api_server.apply(node(namespace, name, find_own_address(), engine="vllm", capacity=capacity))
    with Replica(api_server, namespace, "one", tmp_path) as one:
        one.wait_published()
        until(lambda: bool(read_endpoint(api_server, namespace, "b")))
    # As if others had held half of it when the operator died.
    said = read_endpoint(api_server, namespace, "a")
    assert said["factors"]["left"] == 1
    written = api_server.request("GET", locate(node(namespace, "a")))
    written["status"]["endpoints"][0] |= {"weight": said["weight"] // 4, "factors": said["factors"] | {"left": 0.5}}
    api_server.request("PUT", f"{locate(node(namespace, 'a'))}/status", written)
    with Replica(api_server, namespace, "two", tmp_path) as two:
        two.wait_published()
        weights = {o["name"]: o["endpoints"][0]["weight"] for o in two.read_status()["objects"]}
    assert weights["a"] / weights["b"] == 4


def read_endpoint(server: ApiServer, namespace: str, name: str) -> dict[str, Any]:
    status = server.request("GET", locate(node(namespace, name))).get("status", {})
    return next(iter(status.get("endpoints", ())), {})


async def test_objects_say_what_an_envoy_of_another_replica_does(api_server: ApiServer, namespace: str) -> None:
    """From requests to the columns of kubectl, though the writer never spoke with the Envoy."""
    async with Installed(api_server, namespace, "a", "b") as gateway:
        gateway.apply_service("envoys", 9902, "stats")
        for name in "ab":
            address = {"host": gateway.address, "port": gateway.fleet.nodes[name].port}
            spec = {"engine": "vllm", "address": address, "models": [{"name": MODEL}]}
            gateway.apply("ModelNode", name, spec=spec)
        gateway.apply("RoutePolicy", "all", spec={})
        await gateway.start_operator("operator-0", "--envoys-service", "envoys")
        await asyncio.to_thread(until, lambda: holder(api_server, namespace) == "operator-0")
        await gateway.start_envoy("envoy-0", await gateway.start_operator("operator-1", "--envoys-service", "envoys"))
        gateway.apply_slice("envoys", "envoy-0", gateway.envoys["envoy-0"][1], "stats")
        a, policy = node(namespace, "a"), {**node(namespace, "all"), "kind": "RoutePolicy"}
        summary: dict[str, Any] = {}
        end = time.monotonic() + LIMIT
        # Of few requests one node may have got all; numbers are written again after a rest.
        while not 20 < summary.get("share", 0) < 80:
            assert time.monotonic() < end, summary
            await gateway.ask()
            await asyncio.sleep(0.05)
            summary = (await asyncio.to_thread(read, api_server, a)).get("summary", {})
        await asyncio.to_thread(until, lambda: condition(api_server, a, "Ready").get("status") == "True")
        assert summary["servers"] == "1/1"
        assert summary["age"] in (5, 15)
        await asyncio.to_thread(until, lambda: condition(api_server, policy, "Ready").get("status") == "True")
        said = await asyncio.to_thread(read, api_server, policy)
        assert said["pools"][0]["servers"] == 2
        assert said["pools"][0]["profile"] == "llm"


def read(server: ApiServer, document: dict[str, Any]) -> dict[str, Any]:
    """The status."""
    return dict(server.request("GET", locate(document)).get("status", {}))
