"""The API server of the tests is a real one that takes the CRDs, and survives its own death."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException

from support import assets
from support.apiserver import ApiServer, call, locate
from support.corpus import build_node


def test_objects_outlive_the_server(api_server: ApiServer, namespace: str) -> None:
    node = build_node({})
    node["metadata"]["namespace"] = namespace
    api_server.apply(node)
    first = api_server.pid
    api_server.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    api_server.start()
    assert api_server.pid != first
    assert api_server.request("GET", locate(node))["spec"]["engine"] == "vllm"


def test_a_stranger_may_do_nothing(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    api_server.write_kubeconfig(tmp_path / "stranger", "stranger")
    stranger = api_server.connect(tmp_path / "stranger")
    path = f"/apis/weighbridge.dev/v1alpha1/namespaces/{namespace}/modelnodes"
    with pytest.raises(ApiException) as raised:
        call(stranger, "GET", path)
    assert raised.value.status == 403


def test_a_directory_without_the_programs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(assets.NoAssetsError, match="has no etcd and no kube-apiserver"):
        assets.find_assets()


def test_without_go_one_line_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(assets.shutil, "which", lambda _: None)
    monkeypatch.setattr(assets.os, "access", lambda *_: False)
    with pytest.raises(assets.NoAssetsError, match="no Go to build it with"):
        assets.bring_assets(print)
