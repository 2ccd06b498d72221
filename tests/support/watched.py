"""The cluster source on a real API server: what it publishes, and what it asked for to know that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from support.apiproxy import ApiProxy
from support.apiserver import ApiServer, locate
from support.corpus import build_node
from weighbridge_operator.latest import Latest
from weighbridge_operator.settings import KubernetesSettings
from weighbridge_operator.sources.kube.access import Api
from weighbridge_operator.sources.kube.source import ClusterSource
from weighbridge_operator.state import DesiredState, Objects

LIMIT = 30.0  # seconds; a busy machine


class Watched:
    """`async with Watched(server, namespace, folder, monkeypatch) as watched:`; not begun until `begin`."""

    def __init__(self, server: ApiServer, namespace: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.server, self.namespace, self._patch = server, namespace, patch
        self.proxy = ApiProxy(server, folder)
        self.objects: Latest[Objects] = Latest()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watched:
        await self.proxy.__aenter__()
        self._patch.setenv("KUBECONFIG", str(self.proxy.kubeconfig))
        return self

    async def begin(self, *others: str, envoys: str | None = None) -> None:
        """Starts reading: what an operator does at its start."""
        self.api = await Api().__aenter__()
        watch = ("*",) if others == ("*",) else tuple(sorted({self.namespace, *others}))
        settings = KubernetesSettings(self.namespace, "test", watch, envoys)
        self.objects = Latest()
        self.source = ClusterSource(settings, self.api, self.objects, {})
        self._task = asyncio.create_task(self.source.run())

    async def end(self) -> None:
        """Ends reading: what an operator's death does."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await self.api.__aexit__()
            self._task = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()
        await self.proxy.__aexit__(kind, error, trace)

    @property
    def desired(self) -> DesiredState:
        found = self.objects.get()
        return found.desired if found else DesiredState()

    @property
    def names(self) -> list[str]:
        """Of the nodes that are asked for."""
        return [node.metadata.name for node in self.desired.nodes]

    async def until(self, what: Callable[[DesiredState], Any], limit: float = LIMIT) -> DesiredState:
        """Waits until what is published fits."""
        end = time.monotonic() + limit
        while self.objects.get() is None or not what(self.desired):
            assert self._task is not None
            if self._task.done():
                self._task.result()
            assert time.monotonic() < end, (self.desired.nodes, self.desired.rejections, self.desired.services)
            await asyncio.sleep(0.01)
        return self.desired

    def node(self, name: str, namespace: str | None = None, **spec: Any) -> dict[str, Any]:
        """A ModelNode of the namespace; not applied."""
        made = build_node(spec)
        made["metadata"] |= {"name": name, "namespace": namespace or self.namespace}
        return made

    async def apply(self, *documents: dict[str, Any]) -> None:
        for document in documents:
            await asyncio.to_thread(self.server.apply, document)

    async def delete(self, document: dict[str, Any]) -> None:
        await asyncio.to_thread(self.server.request, "DELETE", locate(document))
