"""The end: the gateway goes, what users wrote stays, and nothing is stuck in deletion."""

from __future__ import annotations

import pytest

from support.cluster import RELEASE, Cluster
from support.release import install

pytestmark = pytest.mark.e2e


def test_objects_outlive_the_chart_and_can_go_without_it(cluster: Cluster, gateway: str) -> None:
    cluster.helm("uninstall", RELEASE, "--wait", "--timeout=180s")
    kinds = cluster.kubectl("get", "crds", "-o", "name")
    assert "modelnodes.weighbridge.dev" in kinds
    assert "routepolicies.weighbridge.dev" in kinds
    names = {item["metadata"]["name"] for item in cluster.get("modelnodes")["items"]}
    assert {"demo-large", "demo-small"} <= names
    cluster.kubectl("delete", "modelnode", "demo-small", "--wait=true", "--timeout=20s")
    install(cluster)
    cluster.wait_condition("modelnode", "demo-large", "Ready")
