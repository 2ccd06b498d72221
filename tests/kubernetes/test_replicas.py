"""Two replicas that read the same cluster by different ways make the same bytes of it, secrets included."""

from __future__ import annotations

import base64
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.apiserver import ApiServer
from support.watched import Watched
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.snapshot import Snapshot, derive_salt
from weighbridge_operator.xds.translate import translate


def make(watched: Watched) -> Snapshot:
    desired = watched.desired
    gateway = resolve(desired, Scope(watched.namespace, cluster=True)).gateway
    return translate(gateway, {}, desired.secrets, Entrance(), derive_salt(desired.secrets))


async def test_events_and_lists_lead_to_the_same_bytes(
    api_server: ApiServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as running:
        for name in ("early", "late"):
            (tmp_path / name).mkdir()
        early, late = [
            await running.enter_async_context(Watched(api_server, namespace, tmp_path / name, monkeypatch))
            for name in ("early", "late")
        ]
        await early.begin()
        await early.until(lambda _: True)
        key = {"metadata": {"name": "provider", "namespace": namespace}, "apiVersion": "v1", "kind": "Secret"}
        await early.apply(key | {"data": {"apiKey": base64.b64encode(b"hush").decode()}})
        reference = {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}}
        # The early one sees every step, in another order than that of names; the late one sees what came of it.
        for name, tier in (("b", "high"), ("a", "high"), ("c", "standard"), ("b", "standard")):
            await early.apply(early.node(name, tier=tier, **(reference if name == "a" else {})))
        await early.delete(early.node("c"))
        await early.until(lambda desired: early.names == ["a", "b"] and desired.nodes[1].spec.tier == "standard")
        await late.begin()
        await late.until(lambda desired: len(desired.nodes) == 2)
        await early.until(lambda desired: desired == late.desired)
        ours, theirs = make(early), make(late)
        assert ours == theirs
        assert ours.versions == theirs.versions
        assert ours.secrets
