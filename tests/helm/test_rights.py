"""The operator with the chart's rights and no others: all that it asks is granted, and all that is granted it asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.apiserver import ApiServer
from support.assets import NoAssetsError, bring_assets
from support.charts import render
from support.replica import Replica
from weighbridge_operator.permissions import CERTIFICATES, OBJECTS, OWN

NAMESPACE, USER = "weighbridge", "operator"
LIMIT = 60.0  # seconds; a busy machine
Right = tuple[str, str, str]
#: Asked for only after a watch that broke off, when a certificate is renewed, and where Ready changes (which takes an
#: Envoy; the end-to-end tests look at the events).
RARE: set[Right] = {
    ("weighbridge.dev", "modelnodes", "get"),
    ("weighbridge.dev", "routepolicies", "get"),
    ("", "secrets", "update"),
    ("events.k8s.io", "events", "create"),
}
META = {"namespace": NAMESPACE}
OBJECT = {"apiVersion": "weighbridge.dev/v1alpha1"}
OBJECTS_OF_A_USER: tuple[dict[str, Any], ...] = (
    {"apiVersion": "v1", "kind": "Service", "metadata": META | {"name": "qwen"}, "spec": {"ports": [{"port": 8000}]}},
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": META | {"name": "qwen-1", "labels": {"kubernetes.io/service-name": "qwen"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8000}],
        "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": True}}],
    },
    {"apiVersion": "v1", "kind": "Secret", "metadata": META | {"name": "provider"}, "stringData": {"key": "sk-1"}},
    OBJECT
    | {
        "kind": "ModelNode",
        "metadata": META | {"name": "a"},
        "spec": {
            "engine": "openai",
            "service": {"name": "qwen", "port": 8000},
            "credentials": {"secretRef": {"name": "provider", "key": "key"}},
            "models": [{"name": "m"}],
        },
    },
    OBJECT | {"kind": "RoutePolicy", "metadata": META | {"name": "p"}, "spec": {"match": {"models": ["m"]}}},
)


def until(true: Callable[[], object], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            if true():
                return
        except ApiException:
            pass
        assert time.monotonic() < deadline, log()
        time.sleep(0.1)


def grant(server: ApiServer, *flags: str) -> None:
    """What the chart grants its service account, to a user of that name."""
    for document in render(*flags):
        kind = document["kind"].removeprefix("Cluster")
        if kind in ("Role", "RoleBinding"):
            if kind == document["kind"]:
                document["metadata"].setdefault("namespace", NAMESPACE)
            if kind == "RoleBinding":
                document["subjects"] = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]
            server.apply(document)


def read_asked(server: ApiServer) -> tuple[set[Right], list[str]]:
    """What the operator asked for, and what it was refused."""
    asked, refused = set(), []
    for event in server.read_audit(USER):
        what = event.get("objectRef")
        if what is None or "resource" not in what:
            continue  # discovery, which everybody may read
        resource = what["resource"] + (f"/{what['subresource']}" if "subresource" in what else "")
        asked.add((what.get("apiGroup", ""), resource, event["verb"]))
        if event.get("responseStatus", {}).get("code") == 403:
            refused.append(f"{event['verb']} {event['requestURI']}")
    return asked, refused


@pytest.mark.parametrize("watched", [(), (NAMESPACE, "team"), ("*",)], ids=["one", "several", "all"])
def test_it_asks_for_all_that_it_may_and_for_nothing_else(watched: tuple[str, ...], tmp_path: Path) -> None:
    watching = (f"--set=watch.namespaces={{{','.join(watched)}}}",) if watched else ()
    value = ("--set=dataplane.enabled=true", *watching)
    render(*value)
    try:
        assets = bring_assets(print)
    except NoAssetsError as error:
        pytest.skip(f"not run: {error}")
    with ApiServer(assets, audit=True) as server:
        for name in (NAMESPACE, "team"):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        grant(server, *value)
        for document in OBJECTS_OF_A_USER:
            server.apply(document)
        mine = tmp_path / "kubeconfig"
        server.write_kubeconfig(mine, USER)
        flags = ("--envoys-service=weighbridge-envoys", "--lease=weighbridge")
        flags += ("--xds-tls-secret=weighbridge-xds", "--xds-tls-peers")
        flags += tuple(f"--watch-namespace={name}" for name in watched)
        with Replica(server, NAMESPACE, "one", tmp_path, *flags, kubeconfig=mine) as replica:
            root = f"/apis/weighbridge.dev/v1alpha1/namespaces/{NAMESPACE}"
            for path in (f"{root}/modelnodes/a", f"{root}/routepolicies/p"):
                until(lambda p=path: server.request("GET", p).get("status", {}).get("conditions"), lambda: replica.log)
            secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/weighbridge-xds-peers"
            until(lambda: server.request("GET", secret), lambda: replica.log)
            until(lambda: ("coordination.k8s.io", "leases", "update") in read_asked(server)[0], lambda: replica.log)
        asked, refused = read_asked(server)
    granted = {(p.group, p.resource, verb) for p in (*OBJECTS, *OWN, *CERTIFICATES) for verb in p.verbs}
    assert refused == []
    assert asked <= granted
    assert granted - asked <= RARE
