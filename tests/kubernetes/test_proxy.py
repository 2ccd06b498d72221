"""`weighbridge status --kubernetes` through a real API server's proxy, and what it says where that cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.apiserver import ApiServer, locate
from support.replica import find_own_address
from support.reports import healthy
from weighbridge_operator import cluster_api
from weighbridge_operator.admin import Admin
from weighbridge_operator.cli import main
from weighbridge_operator.latest import Latest
from weighbridge_operator.report import Report

SERVICE = "weighbridge-operator"


def create_service(server: ApiServer, namespace: str, port: int) -> None:
    """With one pod behind it, whose address is this machine's. The proxy goes to addresses of pods alone."""
    metadata, address = {"name": SERVICE, "namespace": namespace}, find_own_address()
    spec = {"ports": [{"name": "admin", "port": 8081}]}
    server.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    server.apply(pod | {"spec": {"containers": [{"name": "operator", "image": "none"}]}})
    status = {"podIP": address, "podIPs": [{"ip": address}]}
    merge = "application/merge-patch+json"
    server.request("PATCH", f"{locate(pod)}/status", {"status": status}, content=merge)
    addresses = [{"ip": address, "targetRef": {"kind": "Pod", **metadata}}]
    subsets = [{"addresses": addresses, "ports": [{"name": "admin", "port": port}]}]
    path = f"/api/v1/namespaces/{namespace}/endpoints"
    server.request("POST", path, {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets})


@pytest.fixture
async def admin(monkeypatch: pytest.MonkeyPatch, api_server: ApiServer) -> AsyncIterator[int]:
    """The port of an operator's admin interface; the API server is the one that commands find."""
    monkeypatch.setattr(cluster_api.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(api_server.kubeconfig))
    reports: Latest[Report] = Latest()
    reports.set(healthy())
    serving = Admin(reports)
    yield await serving.start("0.0.0.0")
    await serving.stop()


async def run(*argv: str) -> int:
    import asyncio

    command, *rest = argv
    return await asyncio.to_thread(main, command, rest)


async def test_status_and_explain_come_through_the_api_server(
    admin: int, api_server: ApiServer, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create_service(api_server, namespace, admin)
    assert await run("status", "--kubernetes", "-n", namespace) == 0
    assert "qwen-large" in capsys.readouterr().out
    assert await run("explain", "--kubernetes", "-n", namespace, "default/qwen-small") == 0
    shown = capsys.readouterr().out
    assert "qwen-small" in shown
    assert "qwen-large" not in shown
    assert await run("explain", "--kubernetes", "-n", namespace, "nobody") == 1
    assert "no ModelNode 'nobody'" in capsys.readouterr().err


async def test_what_cannot_be_is_said_in_one_line(
    admin: int, api_server: ApiServer, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("status", "--kubernetes", "-n", namespace) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"weighbridge: there is no Service {SERVICE} of namespace {namespace}: say where")
    assert said.count("\n") == 1
    create_service(api_server, namespace, admin)
    path = f"/api/v1/namespaces/{namespace}/endpoints/{SERVICE}"
    api_server.request("PATCH", path, {"subsets": []}, content="application/merge-patch+json")
    assert await run("status", "--kubernetes", "-n", namespace) == 1
    assert f"the Service {SERVICE} of namespace {namespace} has no ready pod" in capsys.readouterr().err


async def test_who_may_not_ask_is_told_which_right_is_missing(
    admin: int,
    api_server: ApiServer,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    api_server.write_kubeconfig(tmp_path / "stranger", "stranger")
    monkeypatch.setattr(cluster_api.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "stranger"))
    assert await run("status", "--kubernetes", "-n", namespace) == 1
    said = capsys.readouterr().err
    assert "the right to get services/proxy" in said
    assert said.count("\n") == 1


async def test_without_a_cluster_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster_api.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert await run("status", "--kubernetes") == 1
    assert "no cluster to ask" in capsys.readouterr().err
