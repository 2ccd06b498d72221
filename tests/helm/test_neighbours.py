"""What the chart asks of its neighbours, on a real API server with their own kinds.

The Prometheus operator's monitors are accepted. cert-manager really issues: operator and Envoy then know each other by
its certificates, and by the next ones.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from support.apiserver import ApiServer, locate
from support.assets import NoAssetsError, bring_assets
from support.charts import need_helm, render
from support.cluster import CHART, run
from support.envoy import RealEnvoy, free_port
from support.gateway import make_assignment, make_cluster
from support.mounted import Mounted
from support.neighbours import CertManager, find_crds
from weighbridge_dataplane.peer_trust import Trust, is_peer
from weighbridge_operator.bootstrap_command import main
from weighbridge_operator.latest import Latest
from weighbridge_operator.protection import Protection, protect
from weighbridge_operator.settings import SecuritySettings, Settings
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import build

NAMESPACE = "weighbridge"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
MONITORS = ("monitoring.coreos.com_podmonitors", "monitoring.coreos.com_servicemonitors")
LIMIT = 60.0  # seconds; a busy machine
Json = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """An API server of this module's own, with the neighbours' kinds."""
    need_helm()
    try:
        crds = [
            *find_crds("cert-manager"),
            *(path for path in find_crds("prometheus-operator") if path.stem in MONITORS),
        ]
        assets = bring_assets(print)
    except NoAssetsError as error:
        pytest.skip(f"not run: {error}")
    with ApiServer(assets) as server:
        found = [crd for path in crds for crd in yaml.safe_load_all(path.read_text()) if crd]
        for crd in found:
            server.apply(crd)
        for crd in found:
            wait_served(server, crd)
        for name in (NAMESPACE, "gateway", "team-a", "team-b", "cert-manager"):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        yield server


def wait_served(server: ApiServer, crd: Json) -> None:
    group, version = crd["spec"]["group"], crd["spec"]["versions"][0]["name"]
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            server.request("GET", f"/apis/{group}/{version}/{crd['spec']['names']['plural']}")
            return
        except ApiException:
            assert time.monotonic() < deadline, crd["metadata"]["name"]
            time.sleep(0.05)


def test_everything_that_the_full_values_bring_is_accepted(server: ApiServer) -> None:
    """Strictly: a field that their kinds do not know is refused. Nothing is kept."""
    values = Path(__file__).parent / "full.yaml"
    flags = [f"--values={values}", "--set=certManager.enabled=true,monitors.enabled=true,crds.install=false"]
    text = run(need_helm(), "template", "full", str(CHART), "--namespace=gateway", *flags)
    kinds = set()
    for document in (each for each in yaml.safe_load_all(text) if each):
        if not document["kind"].startswith("Cluster"):
            document["metadata"].setdefault("namespace", "gateway")
        server.apply(document, dry_run=True)
        kinds.add(document["kind"])
    theirs = {"Certificate", "Issuer", "PodMonitor", "ServiceMonitor"}
    assert theirs | {"HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget"} <= kinds


def read_secret(server: ApiServer, name: str) -> dict[str, bytes]:
    """Its entries; none where there is no such Secret."""
    try:
        found = server.request("GET", f"{SECRETS}/{name}")
    except ApiException:
        return {}
    return {entry: base64.b64decode(value) for entry, value in found.get("data", {}).items()}


async def issued(server: ApiServer, name: str, before: bytes = b"") -> dict[str, bytes]:
    """What cert-manager put into the Secret, once it is another certificate than before."""
    deadline = time.monotonic() + LIMIT
    while True:
        found = await asyncio.to_thread(read_secret, server, name)
        if {"tls.crt", "tls.key", "ca.crt"} <= set(found) and found["tls.crt"] != before:
            return {entry: found[entry] for entry in ("tls.crt", "tls.key", "ca.crt")}
        assert time.monotonic() < deadline, f"cert-manager issued no {name}: {sorted(found)}"
        await asyncio.sleep(0.1)


@pytest.fixture
def installed(server: ApiServer, tmp_path: Path) -> Iterator[Path]:
    """What the chart asks of cert-manager, and cert-manager at work; its log."""
    for document in render("--set=certManager.enabled=true,dataplane.enabled=true"):
        if document["apiVersion"].startswith("cert-manager.io/"):
            document["metadata"]["namespace"] = NAMESPACE
            server.apply(document)
    try:
        with CertManager(server.kubeconfig, tmp_path / "log"):
            yield tmp_path / "log"
    except NoAssetsError as error:
        pytest.skip(f"not run: {error}")


@pytest.fixture
async def operator(server: ApiServer, installed: Path, tmp_path: Path) -> AsyncIterator[tuple[Mounted, AdsServer, int]]:
    """An xDS server that has what an operator's pod would have mounted."""
    mounted = Mounted(tmp_path / "operator")
    mounted.put(await issued(server, "weighbridge-xds"))
    security = SecuritySettings(xds_directory=mounted.directory)
    protection: Protection = await protect(Settings(paths=(), security=security))
    snapshots: Latest = Latest()
    snapshots.set(build(clusters=[make_cluster("c")], endpoints=[make_assignment("c", [9])]))
    serving = AdsServer("weighbridge", snapshots, identity=protection.identity)
    following = asyncio.create_task(protection.run())
    yield mounted, serving, await serving.start("127.0.0.1:0", protection.credentials)
    following.cancel()
    await serving.stop(0.0)


async def connects(serving: AdsServer, name: str, port: int, mounted: Mounted, folder: Path) -> bool:
    """Whether a real Envoy, configured as the chart does it, gets a configuration; the Service's name leads to us."""
    admin, file = free_port(), folder / f"{name}.json"
    place = f"weighbridge-operator.{NAMESPACE}.svc:{port}"
    flags = ["--operator", place, "--id", name, "--admin-port", str(admin), "--write", str(file)]
    assert main([*flags, "--tls-directory", str(mounted.directory)]) == 0
    config = json.loads(file.read_text())
    cluster = config["static_resources"]["clusters"][0]
    cluster["type"] = "STATIC"
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    address["address"] = "127.0.0.1"
    async with RealEnvoy(config, admin_port=admin):
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            states = serving.states.get()
            if states and any(envoy.id == name and envoy.current for envoy in states.envoys):
                return True
            await asyncio.sleep(0.05)
    return False


@pytest.mark.envoy
async def test_cert_manager_issues_what_operator_and_envoy_know_each_other_by(
    server: ApiServer, operator: tuple[Mounted, AdsServer, int], tmp_path: Path
) -> None:
    at_operator, serving, port = operator
    at_envoy = Mounted(tmp_path / "envoy")
    first = await issued(server, "weighbridge-xds-client")
    at_envoy.put(first)
    assert await connects(serving, "a", port, at_envoy, tmp_path)
    # As a renewal: both are issued anew, by the same authority, one before the other.
    for name, mounted in (("weighbridge-xds-client", at_envoy), ("weighbridge-xds", at_operator)):
        before = read_secret(server, name)["tls.crt"]
        server.request("DELETE", f"{SECRETS}/{name}")
        mounted.put(await issued(server, name, before))
        assert await connects(serving, f"b-{name}", port, at_envoy, tmp_path)
    # The authority's own renewal, with the same key: older certificates are good for its newer form, too.
    authority = read_secret(server, "weighbridge-xds-ca")
    certificate = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate"}
    path = locate({**certificate, "metadata": {"name": "weighbridge-xds-ca", "namespace": NAMESPACE}})
    issuing = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "as cmctl renew does"}
    told = server.request("GET", path)
    conditions = [each for each in told["status"]["conditions"] if each["type"] != "Issuing"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told["status"]["conditions"] = [*conditions, {**issuing, "lastTransitionTime": now}]
    server.request("PUT", f"{path}/status", told)
    renewed = await issued(server, "weighbridge-xds-ca", authority["tls.crt"])
    assert renewed["tls.key"] == authority["tls.key"]
    at_envoy.put({**at_envoy_entries(at_envoy), "ca.crt": renewed["ca.crt"]})
    assert await connects(serving, "c", port, at_envoy, tmp_path)


async def test_cert_manager_issues_what_data_planes_know_each_other_by(
    server: ApiServer, installed: Path, tmp_path: Path
) -> None:
    mounted = Mounted(tmp_path / "peers")
    mounted.put(await issued(server, "weighbridge-xds-peers"))
    trust = Trust(mounted.directory)
    trust.load()
    told: asyncio.Queue[Any] = asyncio.Queue()

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.put_nowait(writer.get_extra_info("ssl_object").getpeercert())

    listening = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=trust.server)
    _, writer = await asyncio.open_connection(*listening.sockets[0].getsockname(), ssl=trust.client)
    assert is_peer(writer.get_extra_info("ssl_object").getpeercert())
    assert is_peer(await asyncio.wait_for(told.get(), 10))
    writer.close()
    listening.close()


def at_envoy_entries(mounted: Mounted) -> dict[str, bytes]:
    return {name: (mounted.directory / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")}
