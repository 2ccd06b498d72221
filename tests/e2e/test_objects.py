"""Wrong objects: refused by the API server where it can be said there, else told by a condition; the rest serves on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from typing import Any

import pytest
from openai import APIStatusError, OpenAI

from support.clients import Traffic
from support.cluster import NAMESPACE, RELEASE, Cluster, CommandError, wait_until

pytestmark = pytest.mark.e2e


def node(name: str, **spec: Any) -> dict[str, Any]:
    base = {"engine": "openai", "models": [{"name": "wrong"}]}
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "ModelNode",
        "metadata": {"name": name},
        "spec": base | spec,
    }


def test_what_the_schema_can_say_is_refused_at_once(cluster: Cluster) -> None:
    service, address = {"name": "demo-small", "port": 8000}, {"host": "192.0.2.1", "port": 8000}
    with pytest.raises(CommandError, match="address"):
        cluster.apply(node("both", service=service, address=address))
    with pytest.raises(CommandError, match="engine"):
        cluster.apply(node("engine", service=service, engine="nonesuch"))
    with pytest.raises(CommandError, match=r"spec\.address\.host"):
        cluster.apply(node("metadata-service", address={"host": "169.254.169.254", "port": 80}))


async def test_what_only_we_know_is_told_by_a_condition_and_hurts_nobody(cluster: Cluster, gateway: str) -> None:
    async with Traffic(gateway) as traffic:
        loopback = node("loopback", address={"host": "127.0.0.1", "port": 80})
        nosecret = node("nosecret", service={"name": "demo-small", "port": 8000}, credentials=_credentials())
        await asyncio.to_thread(cluster.apply, loopback, nosecret)
        refused = await asyncio.to_thread(cluster.wait_condition, "modelnode", "loopback", "Accepted", "False")
        unresolved = await asyncio.to_thread(cluster.wait_condition, "modelnode", "nosecret", "ResolvedRefs", "False")
        await traffic.wait_for(30)
        await traffic.finish()
    assert refused["reason"] == "AddressRefused"
    assert unresolved["reason"] == "SecretNotFound"
    assert traffic.lost == []
    cluster.kubectl("delete", "modelnode", "loopback", "nosecret", "--wait=true", "--timeout=30s")


def test_a_node_that_leads_back_to_the_gateway_is_refused_or_ends_at_once(cluster: Cluster, gateway: str) -> None:
    """By its Service the operator sees it. By the name of that Service it cannot: a request then comes back, once."""
    seen = node("back", service={"name": RELEASE, "port": 80})
    unseen = node("unseen", address={"host": f"{RELEASE}.{NAMESPACE}.svc", "port": 80})
    unseen["spec"]["models"] = [{"name": "round"}]
    cluster.apply(seen, unseen)
    refused = cluster.wait_condition("modelnode", "back", "Accepted", "False")
    assert refused["reason"] == "AddressRefused"
    assert f"Service {RELEASE} leads to the gateway's own entrance" in refused["message"]
    cluster.wait_condition("modelnode", "unseen", "Programmed")
    client = OpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0, timeout=20)
    with pytest.raises(APIStatusError) as told:
        client.chat.completions.create(model="round", messages=[{"role": "user", "content": "hi"}])
    assert (told.value.status_code, told.value.code) == (508, "loop_detected")
    cluster.kubectl("delete", "modelnode", "back", "unseen", "--wait=true", "--timeout=30s")


async def _shell(variable: str) -> None:
    await asyncio.to_thread(subprocess.run, os.environ[variable], shell=True, check=True)


def _credentials() -> dict[str, Any]:
    return {"secretRef": {"name": "nonesuch", "key": "apiKey"}}


def test_a_changed_policy_is_programmed(cluster: Cluster, gateway: str) -> None:
    change = json.dumps({"spec": {"retry": {"attempts": 3}}})
    cluster.kubectl("patch", "routepolicy", "demo", "--type=merge", "-p", change)
    generation = cluster.get("routepolicy", "demo")["metadata"]["generation"]
    wait_until(
        lambda: (
            (seen := cluster.condition("routepolicy", "demo", "Programmed")).get("status") == "True"
            and seen["observedGeneration"] == generation
        ),
        "the change is programmed",
        30,
    )


@pytest.mark.skipif("E2E_API_STOP" not in os.environ, reason="not run: no E2E_API_STOP takes the API server away")
async def test_without_an_api_server_requests_go_on(cluster: Cluster, gateway: str) -> None:
    async with Traffic(gateway) as traffic:
        await traffic.wait_for(10)
        await _shell("E2E_API_STOP")
        try:
            await traffic.wait_for(300)
        finally:
            await _shell("E2E_API_START")
        await asyncio.to_thread(wait_until, lambda: cluster.kubectl("get", "--raw", "/readyz"), "the API is back", 120)
        await traffic.wait_for(50)
        await traffic.finish()
    assert traffic.lost == []
    cluster.apply(node("after", address={"host": "127.0.0.1", "port": 80}))
    cluster.wait_condition("modelnode", "after", "Accepted", "False")
    cluster.kubectl("delete", "modelnode", "after")
