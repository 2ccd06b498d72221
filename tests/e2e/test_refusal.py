"""What one Envoy refuses is told on the object that it is about; all else serves on, and the word ends with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clients import Traffic
from support.cluster import RELEASE, Cluster

pytestmark = pytest.mark.e2e
NAME = "fragile"
SCRIPT = Path(__file__).parent / "refuser.py"
NODE = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "ModelNode",
    "metadata": {"name": NAME},
    "spec": {
        "engine": "openai",
        "service": {"name": "demo-small", "port": 8000},
        "models": [{"name": NAME, "servedAs": "qwen2.5-7b"}],
    },
}
LABELS = {"app": "refuser"}
#: Where policies are enforced, only Envoys reach xDS.
LET_IN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "refuser"},
    "spec": {
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": LABELS}}], "ports": [{"port": 18000}]}],
    },
}


@pytest.fixture
def refusing(cluster: Cluster) -> Iterator[None]:
    """An Envoy that refuses the node's cluster, at the replica that writes statuses; the node is served before it."""
    cluster.apply(NODE)
    cluster.wait_condition("modelnode", NAME, "Programmed")
    leader = cluster.get("lease")["items"][0]["spec"]["holderIdentity"]
    cluster.apply(
        LET_IN,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "refuser"},
            "data": {SCRIPT.name: SCRIPT.read_text()},
        },
        make_pod(cluster.get("pod", leader)["status"]["podIP"]),
    )
    yield
    cluster.kubectl("delete", "modelnode", NAME)
    cluster.kubectl("delete", "pod,configmap,networkpolicy", "refuser", "--ignore-not-found")


def make_pod(host: str) -> dict[str, Any]:
    """It shows the certificate that Envoys show."""
    container = {
        "name": "refuser",
        "image": os.environ.get("E2E_OPERATOR_IMAGE", "weighbridge/operator:dev"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/weighbridge/bin/python", f"/script/{SCRIPT.name}", host, NAME],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}, {"name": "tls", "mountPath": "/tls"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "refuser", "labels": LABELS},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [
                {"name": "script", "configMap": {"name": "refuser"}},
                {"name": "tls", "secret": {"secretName": f"{RELEASE}-xds-client"}},
            ],
        },
    }


async def test_a_refusal_is_told_on_its_object_alone_and_ends(cluster: Cluster, gateway: str, refusing: None) -> None:
    async with Traffic(gateway) as others, Traffic(gateway, model=NAME) as own:
        said = await asyncio.to_thread(cluster.wait_condition, "modelnode", NAME, "Programmed", "False")
        told = [
            await asyncio.to_thread(cluster.condition, "modelnode", f"demo-{n}", "Programmed")
            for n in ("large", "small")
        ]
        await asyncio.to_thread(cluster.kubectl, "delete", "pod", "refuser", "--wait=true")
        await asyncio.to_thread(cluster.wait_condition, "modelnode", NAME, "Programmed")
        await others.wait_for(30)
        await own.wait_for(10)
        await others.finish()
        await own.finish()
    assert "this build knows no such thing" in said["message"], said
    assert [each["status"] for each in told] == ["True", "True"], told
    assert (others.lost, own.lost) == ([], [])
