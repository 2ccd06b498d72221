"""Load that only Prometheus knows: a GPU hog on one node of three takes its requests away, and gives them back."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import yaml

from support.clients import Traffic
from support.cluster import ROOT, Cluster, wait_until

pytestmark = pytest.mark.e2e
MODEL = "gpu-bound"
#: A server that prints no load: what is known of it is Prometheus' (DCGM's series of its pod).
NODE = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "ModelNode",
    "metadata": {"name": MODEL, "labels": {"pool": MODEL}},
    "spec": {
        "engine": "openai",
        "service": {"name": "demo-small", "port": 8000},
        "models": [{"name": MODEL, "servedAs": "qwen2.5-7b"}],
    },
}
POLICY = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "RoutePolicy",
    "metadata": {"name": MODEL},
    "spec": {
        "match": {"models": [MODEL]},
        "nodes": {"matchLabels": {"pool": MODEL}},
        "balance": {"profile": "classic", "weights": {"gpu": 100}},
    },
}


@pytest.fixture
def measured(cluster: Cluster, gateway: str) -> Iterator[str]:
    """The entrance, with a Prometheus that scrapes three equal nodes."""
    image = os.environ.get("E2E_PROMETHEUS_IMAGE", "weighbridge/prometheus:dev")
    documents = list(yaml.safe_load_all((ROOT / "examples/cluster/prometheus.yaml").read_text()))
    deployment = next(each for each in documents if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    cluster.apply(*documents, NODE, POLICY)
    cluster.kubectl("scale", "deployment/demo-small", "--replicas=3")
    for name in ("prometheus", "demo-small"):
        cluster.wait_rolled(name)
    cluster.wait_condition("modelnode", MODEL, "MetricsFresh")
    yield gateway
    cluster.kubectl("delete", "modelnode,routepolicy", MODEL)
    cluster.kubectl("scale", "deployment/demo-small", "--replicas=2")


def control(cluster: Cluster, pod: str, change: object) -> None:
    """Tells a simulated node what to be."""
    code = (
        "import sys, urllib.request; "
        "urllib.request.urlopen('http://127.0.0.1:8000/sim/control', sys.argv[1].encode(), timeout=5)"
    )
    cluster.kubectl("exec", pod, "--", "/opt/weighbridge/bin/python", "-c", code, json.dumps(change))


def read_weights(cluster: Cluster) -> dict[str, int]:
    """By pod, as the object's status says."""
    found = cluster.get("modelnode", MODEL).get("status", {}).get("endpoints", [])
    return {each["server"]: each["weight"] for each in found if each.get("weight")}


async def until_weights(cluster: Cluster, true: Callable[[dict[str, int]], bool], what: str) -> None:
    """Shows the whole status where it does not come."""

    def look() -> bool:
        weights = read_weights(cluster)
        return len(weights) == 3 and true(weights)

    try:
        await asyncio.to_thread(wait_until, look, what, 120)
    except TimeoutError as error:
        status = cluster.kubectl("get", "modelnode", MODEL, "-o", "jsonpath={.status}")
        raise TimeoutError(f"{error} {status}") from None


async def test_a_hog_on_one_node_lowers_its_share_and_gives_it_back(cluster: Cluster, measured: str) -> None:
    hog, *others = cluster.pods("demo-small")
    assert len(others) == 2
    async with Traffic(measured, rate=6, model=MODEL) as traffic:
        await traffic.wait_for(30)
        await asyncio.to_thread(control, cluster, hog, {"gpu": 0.95})

        await until_weights(cluster, lambda w: w[hog] < min(w[each] for each in others), "the hog's node weighs less")
        before = Counter(traffic.by_node)
        await traffic.wait_for(90)
        got = {pod: sum(n for node, n in (traffic.by_node - before).items() if pod in node) for pod in (hog, *others)}
        await asyncio.to_thread(control, cluster, hog, {"clear": True})

        await until_weights(cluster, lambda w: len(set(w.values())) == 1, "it weighs what it weighed")
        await traffic.finish()
    assert got[hog] < 0.8 * min(got[each] for each in others), got
    assert traffic.lost == []
