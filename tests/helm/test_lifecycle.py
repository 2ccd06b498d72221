"""The chart on a real API server: installed, upgraded with its CRDs, rolled back, uninstalled; users' objects stay."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from support.apiserver import ApiServer
from support.assets import NoAssetsError, bring_assets
from support.charts import need_helm
from support.cluster import CHART, run

NAMESPACE = "gateway"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NODES = f"/apis/weighbridge.dev/v1alpha1/namespaces/{NAMESPACE}/modelnodes"
NODE = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "ModelNode",
    "metadata": {"name": "a", "namespace": NAMESPACE},
    "spec": {"engine": "vllm", "address": {"host": "192.0.2.1", "port": 8000}, "models": [{"name": "m"}]},
}


@pytest.fixture(scope="module")
def bare() -> Iterator[ApiServer]:
    """An API server of this module's own, without the CRDs."""
    need_helm()
    try:
        assets = bring_assets(print)
    except NoAssetsError as error:
        pytest.skip(f"not run: {error}")
    with ApiServer(assets) as server:
        for name in ("modelnodes", "routepolicies"):
            server.request("DELETE", f"{CRDS}/{name}.weighbridge.dev")
        until(lambda: not server.request("GET", CRDS)["items"])
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield server


def until(true: Any) -> None:
    """Waits for something that the API server does soon."""
    deadline = time.monotonic() + 30
    while True:
        try:
            if true():
                return
        except ApiException:
            pass
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The chart as it may have been: its ModelNode knows no capacity yet, and it runs one operator."""
    chart = tmp_path / "weighbridge"
    shutil.copytree(CHART, chart)
    path = chart / "files/crds/weighbridge.dev_modelnodes.yaml"
    crd = yaml.safe_load(path.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del schema["properties"]["capacity"]
    schema.pop("x-kubernetes-validations", None)
    path.write_text(yaml.safe_dump(crd, sort_keys=False))
    return chart


OPERATOR = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/weighbridge-operator"


class Release:
    """What the test does with helm, and what the API server then says."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def helm(self, *arguments: str) -> str:
        return run(need_helm(), f"--kubeconfig={self._server.kubeconfig}", "-n", NAMESPACE, *arguments)

    def read(self, path: str) -> dict[str, Any]:
        return self._server.request("GET", path)

    def replicas(self) -> int:
        return int(self.read(OPERATOR)["spec"]["replicas"])

    def knows_capacity(self) -> bool:
        crd = self.read(f"{CRDS}/modelnodes.weighbridge.dev")
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        return "capacity" in schema["properties"]


def test_install_upgrade_rollback_uninstall(bare: ApiServer, older: Path) -> None:
    release = Release(bare)
    told = release.helm("install", "weighbridge", str(older), "--set=operator.replicas=1")
    assert "anyone who reaches the Service" in told
    assert not release.knows_capacity()
    until(lambda: release.read(NODES))
    bare.apply(NODE)
    assert release.replicas() == 1

    release.helm("upgrade", "weighbridge", str(CHART), "--reset-values")
    assert release.knows_capacity()
    assert release.replicas() == 2
    capacity = {**NODE, "spec": {**NODE["spec"], "capacity": 2}}  # type: ignore[dict-item]
    until(lambda: bare.apply(capacity)["spec"].get("capacity") == 2)

    release.helm("rollback", "weighbridge", "1")
    assert release.replicas() == 1
    assert release.read(f"{NODES}/a")["metadata"]["name"] == "a"

    release.helm("upgrade", "weighbridge", str(CHART), "--reset-values")
    release.helm("uninstall", "weighbridge")
    with pytest.raises(ApiException):
        release.read(OPERATOR)
    kinds = {crd["metadata"]["name"].partition(".")[0] for crd in release.read(CRDS)["items"]}
    assert kinds == {"modelnodes", "routepolicies"}
    assert release.read(f"{NODES}/a")["spec"]["capacity"] == 2
    # No finalizer of ours: it goes though nobody runs.
    bare.request("DELETE", f"{NODES}/a")
    until(lambda: not release.read(NODES)["items"])

    release.helm("install", "weighbridge", str(CHART))
    assert release.replicas() == 2


def test_everything_that_the_full_values_bring_is_accepted(bare: ApiServer) -> None:
    """But for the monitors, whose kinds are the Prometheus operator's; nothing is kept."""
    for name in ("team-a", "team-b"):
        bare.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    flags = [
        f"--values={Path(__file__).parent / 'full.yaml'}",
        "--set=monitors.enabled=false,certManager.enabled=false",
        "--set=crds.install=false",
    ]
    text = run(need_helm(), "template", "full", str(CHART), f"--namespace={NAMESPACE}", *flags)
    for document in yaml.safe_load_all(text):
        if document:
            document["metadata"].setdefault("namespace", NAMESPACE)
            if document["kind"].startswith("Cluster"):
                del document["metadata"]["namespace"]
            bare.apply(document, dry_run=True)
