"""What `helm install` brings: pods that pass the strictest rules, objects that say how they are, a test that sends."""

from __future__ import annotations

import json

import pytest

from support.cluster import RELEASE, ROOT, Cluster, CommandError

pytestmark = pytest.mark.e2e


def test_every_part_is_there_twice(cluster: Cluster) -> None:
    assert len(cluster.pods("operator")) == 2
    assert len(cluster.pods("envoy")) == 2


def test_helms_own_test_sends_a_request(cluster: Cluster, gateway: str) -> None:
    assert "qwen2.5-7b was answered by" in cluster.helm("test", RELEASE, "--logs", "--timeout=120s")


def test_objects_show_how_they_are(cluster: Cluster, gateway: str) -> None:
    node = cluster.get("modelnode", "demo-small")
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert {"Accepted", "ResolvedRefs", "Programmed", "Ready"} <= {t for t, s in conditions.items() if s == "True"}
    assert all(c["observedGeneration"] == node["metadata"]["generation"] for c in node["status"]["conditions"])
    pods = set(cluster.pods("demo-small"))
    told = json.dumps(node["status"]["endpoints"])
    assert len(pods) == 2
    assert all(pod in told for pod in pods), told
    table = cluster.kubectl("get", "modelnodes,routepolicies")
    assert "demo-large" in table
    assert "READY" in table


def test_events_tell_that_an_object_became_ready(cluster: Cluster, gateway: str) -> None:
    about = "--field-selector=involvedObject.kind=ModelNode,involvedObject.name=demo-small"
    assert "Ready" in cluster.kubectl("get", "events", about)


def test_examples_are_accepted_by_the_api_server(cluster: Cluster) -> None:
    for name in ("chat.yaml", "quickstart.yaml", "cluster/demo.yaml"):
        cluster.kubectl("apply", "--dry-run=server", "-f", str(ROOT / "examples" / name))


def test_the_operator_may_do_what_it_does_and_no_more(cluster: Cluster) -> None:
    user = f"--as=system:serviceaccount:{cluster.namespace}:{RELEASE}-operator"
    for may_not in (("list", "secrets"), ("delete", "modelnodes"), ("patch", "modelnodes"), ("get", "pods")):
        with pytest.raises(CommandError, match="no"):
            cluster.kubectl("auth", "can-i", *may_not, user)
    assert cluster.kubectl("auth", "can-i", "patch", "modelnodes", "--subresource=status", user).strip() == "yes"


def test_envoy_has_no_key_to_the_cluster(cluster: Cluster) -> None:
    pod = cluster.pods("envoy")[0]
    with pytest.raises(CommandError):
        cluster.kubectl("exec", pod, "-c", "envoy", "--", "ls", "/var/run/secrets/kubernetes.io")
    with pytest.raises(CommandError, match="Read-only"):
        cluster.kubectl("exec", pod, "-c", "envoy", "--", "touch", "/written")
