"""The cluster as a source, on a real API server: changes, mistakes, deletions, and what an absence does not do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.client.exceptions import ApiException

from support.apiproxy import empty, refuse
from support.apiserver import ApiServer, locate
from support.watched import Watched
from weighbridge_operator.sources.kube import source

STORED = "/apis/weighbridge.dev/v1alpha1"


@pytest.fixture
async def watched(
    api_server: ApiServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Watched]:
    async with Watched(api_server, namespace, tmp_path, monkeypatch) as made:
        yield made


def policy(watched: Watched, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "RoutePolicy",
        "metadata": {"name": "chat", "namespace": watched.namespace},
        "spec": spec,
    }


async def apply_when_taken(watched: Watched, document: dict[str, Any]) -> None:
    """A new schema takes effect a moment after it is stored."""
    for _ in range(100):
        try:
            return await watched.apply(document)
        except ApiException:
            await asyncio.sleep(0.05)
    raise AssertionError("the API server keeps to the old schema")


async def test_what_is_applied_changed_and_deleted_is_followed(watched: Watched) -> None:
    node = watched.node("a")
    await watched.apply(node, policy(watched, retry={"attempts": 1}))
    await watched.begin()
    found = await watched.until(lambda desired: desired.nodes)
    assert [p.spec.retry.attempts for p in found.policies] == [1]
    assert found.nodes[0].metadata.generation == 1
    assert found.nodes[0].metadata.uid
    await watched.apply(watched.node("a", tier="high"), watched.node("b"))
    await watched.until(lambda desired: [n.spec.tier for n in desired.nodes] == ["high", "standard"])
    await watched.delete(node)
    await watched.until(lambda desired: watched.names == ["b"])


async def test_an_empty_namespace_is_known_to_be_empty(watched: Watched) -> None:
    await watched.begin()
    assert (await watched.until(lambda _: True)).nodes == ()
    await watched.apply(watched.node("a"))
    await watched.until(lambda desired: desired.nodes)


async def test_a_status_is_no_change(watched: Watched) -> None:
    node = watched.node("a")
    await watched.apply(node)
    await watched.begin()
    await watched.until(lambda desired: desired.nodes)
    version = watched.objects.version
    condition = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "observedGeneration": 1}
    status = {"status": {"conditions": [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]}}
    content = "application/merge-patch+json"
    watched.server.request("PATCH", f"{locate(node)}/status", status, content=content)
    await watched.apply(watched.node("b"))
    await watched.until(lambda desired: len(desired.nodes) == 2)
    assert watched.objects.version == version + 1


async def test_an_object_that_turns_invalid_is_held_in_its_last_good_form(watched: Watched) -> None:
    """The CRD of a newer release lets through what this operator cannot understand."""
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/modelnodes.weighbridge.dev"
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    newer = [{"op": "add", "path": f"{schema}/engine/enum/-", "value": "later"}]
    newer += [{"op": "add", "path": f"{schema}/novelty", "value": {"type": "string"}}]
    before = watched.server.request("GET", crd)["spec"]
    watched.server.request("PATCH", crd, newer, content="application/json-patch+json")
    try:
        await watched.apply(watched.node("a"))
        await watched.begin()
        await watched.until(lambda desired: desired.nodes)
        await apply_when_taken(watched, watched.node("a", engine="later", novelty="x"))
        await watched.apply(watched.node("fresh", engine="later"))
        found = await watched.until(lambda desired: len(desired.rejections) == 2)
        assert [(n.metadata.name, n.spec.engine) for n in found.nodes] == [("a", "vllm")]
        held = {r.ref.name: r.held for r in found.rejections}
        assert held == {"a": True, "fresh": False}
        assert found.rejections[0].generation == 2
        assert "spec.engine: must be" in found.rejections[0].message
        await watched.apply(watched.node("a", novelty="an older operator does not know it, and does not mind"))
        await watched.until(lambda desired: [r.ref.name for r in desired.rejections] == ["fresh"])
    finally:
        for name in ("a", "fresh"):
            watched.server.request("DELETE", locate(watched.node(name)))
        stored = watched.server.request("GET", crd)
        watched.server.request("PUT", crd, stored | {"spec": before})


async def test_an_api_server_that_dies_deletes_nothing_and_its_return_is_noticed(watched: Watched) -> None:
    await watched.apply(watched.node("a"), watched.node("b"))
    await watched.begin()
    await watched.until(lambda desired: len(desired.nodes) == 2)
    watched.server.kill()
    try:
        await asyncio.sleep(1.0)
        assert watched.names == ["a", "b"]
    finally:
        watched.server.start()  # in this thread: it ends with the one that started it
    await watched.apply(watched.node("c"))
    await watched.until(lambda desired: watched.names == ["a", "b", "c"])


async def test_an_operator_that_starts_while_the_api_server_is_away_says_nothing_until_it_is_back(
    watched: Watched,
) -> None:
    await watched.apply(watched.node("a"))
    watched.proxy.lie = refuse
    await watched.begin()
    await asyncio.sleep(1.0)
    assert watched.objects.get() is None
    watched.proxy.lie = None
    assert (await watched.until(lambda _: True)).nodes


@pytest.mark.parametrize("plural", ["modelnodes", "routepolicies"])
async def test_a_first_list_that_is_empty_once_deletes_nothing(watched: Watched, plural: str) -> None:
    await watched.apply(watched.node("a"), policy(watched))
    watched.proxy.lie = empty(plural)
    await watched.begin()
    found = await watched.until(lambda _: True)
    assert (len(found.nodes), len(found.policies)) == (1, 1)


async def test_a_relist_that_is_empty_once_deletes_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "AUDIT", 0.2)
    await watched.apply(*(watched.node(f"n-{number:02}") for number in range(30)))
    await watched.begin()
    await watched.until(lambda desired: len(desired.nodes) == 30)
    before = len(watched.proxy.asked)
    watched.proxy.lie = empty("modelnodes")
    watched.proxy.cut()
    lists = 0
    while lists < 4:
        await asyncio.sleep(0.05)
        lists = sum(1 for _, path, query in watched.proxy.asked[before:] if "watch=" not in query)
    assert len(watched.names) == 30


async def test_a_deletion_that_nobody_saw_is_found(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "AUDIT", 0.2)
    nodes = [watched.node(f"n-{number:02}") for number in range(source.BY_NAME + 5)]
    await watched.apply(watched.node("kept"), *nodes)
    await watched.begin()
    await watched.until(lambda desired: len(desired.nodes) == len(nodes) + 1)
    for heard in (nodes[:1], nodes[1:]):  # one is asked for by name, many are looked for in a second list
        unheard = [f"{node['metadata']['name']}" for node in heard]
        ledger = watched.source._ledgers["modelnodes"]
        drop = ledger.drop
        monkeypatch.setattr(ledger, "drop", lambda raw, u=unheard, d=drop: raw["metadata"]["name"] not in u and d(raw))
        for node in heard:
            await watched.delete(node)
        await watched.until(lambda desired, u=unheard: not set(u) & set(watched.names))
    assert watched.names == ["kept"]


async def test_a_change_that_the_watch_does_not_tell_is_found(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of a watch: lists find what it should have said."""
    monkeypatch.setattr(source, "AUDIT", 0.2)
    monkeypatch.setattr(source.Watcher, "start", lambda _: None)
    await watched.apply(watched.node("a"))
    await watched.begin()
    await watched.until(lambda desired: desired.nodes)
    await watched.apply(watched.node("a", tier="high"), watched.node("b"))
    await watched.until(lambda desired: [n.spec.tier for n in desired.nodes] == ["high", "standard"])
    for number in range(25):
        await watched.apply(watched.node(f"n{number}"))
    await watched.until(lambda desired: len(desired.nodes) == 27)


async def test_all_namespaces_and_one_of_several(watched: Watched) -> None:
    other, third = watched.server.create_namespace(), watched.server.create_namespace()
    await watched.apply(watched.node("a"), watched.node("b", other), watched.node("c", third))
    await watched.begin(other)
    await watched.until(lambda desired: watched.names == ["a", "b"])
    await watched.end()
    await watched.begin("*")
    await watched.until(lambda desired: {"a", "b", "c"} <= set(watched.names))
    await watched.apply(watched.node("d", third))
    await watched.until(lambda desired: "d" in watched.names)


async def test_objects_carry_no_finalizer_and_can_be_deleted_without_us(watched: Watched) -> None:
    node = watched.node("a")
    await watched.apply(node)
    await watched.begin()
    await watched.until(lambda desired: desired.nodes)
    metadata = watched.server.request("GET", locate(node))["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata
    assert {method for method, _, _ in watched.proxy.asked} == {"GET"}


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, ""), (200, '{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}'), (401, "")],
)
async def test_watches_that_end_at_once_are_not_begun_hundreds_of_times_a_second(
    watched: Watched, status: int, text: str
) -> None:
    await watched.apply(watched.node("a"))
    await watched.begin()
    await watched.until(lambda desired: desired.nodes)

    def cut_off(_: str, path: str, query: str) -> web.Response | None:
        ended = "watch=" in query and path.endswith("/modelnodes")
        return web.Response(status=status, text=text) if ended else None

    watched.proxy.lie = cut_off
    watched.proxy.cut()
    already = len(watched.proxy.asked)
    await asyncio.sleep(3.0)
    asked = [path for _, path, _ in watched.proxy.asked[already:] if path.endswith("/modelnodes")]
    assert 3 <= len(asked) <= 20
    watched.proxy.lie = None
    began = time.monotonic()
    await watched.apply(watched.node("b"))
    await watched.until(lambda desired: watched.names == ["a", "b"])
    assert time.monotonic() - began < 2.0
