"""The whole gateway for one test: objects in a directory, the control plane here, the real Envoy beside it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml

from support.envoy import RealEnvoy, free_port
from weighbridge_operator.core.doors import DoorNames
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.settings import PrometheusSettings
from weighbridge_operator.sources.files import Loaded, watch
from weighbridge_operator.status import Reporter
from weighbridge_operator.xds.bootstrap import BootstrapSettings, bootstrap
from weighbridge_operator.xds.kinds import LABELS
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.recall import recall_over
from weighbridge_operator.xds.request_log import RequestLog
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot
from weighbridge_operator.xds.warmth import ask_over


def node(name: str, port: int, model: str = "m", **spec: Any) -> dict[str, Any]:
    """A ModelNode on loopback; `labels` go to its metadata, everything else to its spec."""
    labels = spec.pop("labels", {})
    models = spec.pop("models", [{"name": model}])
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "ModelNode",
        "metadata": {"name": name, "labels": labels},
        "spec": {"engine": "vllm", "address": {"host": "127.0.0.1", "port": port}, "models": models} | spec,
    }


def secret(name: str, **entries: str) -> dict[str, Any]:
    """A Secret; in the names of entries write _ for a dot."""
    values = {entry.replace("_", "."): value for entry, value in entries.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "RoutePolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


class Stack:
    """`async with Stack(objects) as stack:` serves them at `stack.url` until the block ends."""

    def __init__(
        self,
        *objects: dict[str, Any],
        envoys: int = 1,
        concurrency: int = 1,
        arguments: tuple[str, ...] = (),
        tls: str | None = None,
        keys: str | None = None,
        prometheus: PrometheusSettings | None = None,
        debug_headers: bool = True,
        requests: RequestLog | None = None,
        memory: int | None = None,
        dataplanes: tuple[str, ...] = (),
        name: str = "weighbridge",
        authorities: bytes | None = None,
    ) -> None:
        self._dataplanes = dataplanes
        self._name, self.port = name, free_port()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._debug_headers, self._requests, self._memory = debug_headers, requests, memory
        self._prometheus, self._authorities = prometheus, authorities
        self._names = DoorNames("default", tls, keys)
        self._folder = tempfile.TemporaryDirectory(prefix="weighbridge-")
        self.directory = Path(self._folder.name)
        self._objects, self._count, self._concurrency, self._arguments = objects, envoys, concurrency, arguments
        self._running = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.envoys: list[RealEnvoy] = []

    def write(self, *objects: dict[str, Any], name: str = "objects.yaml") -> None:
        """Replaces a file of the directory, as an editor would."""
        target = self.directory / name
        temporary = target.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump_all(objects, sort_keys=False))
        temporary.chmod(0o600)
        temporary.replace(target)

    async def __aenter__(self) -> Stack:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def _start(self) -> None:
        self.write(*self._objects)
        loaded: Latest[Loaded] = Latest()
        http = await self._running.enter_async_context(aiohttp.ClientSession())
        snapshots: Latest[Snapshot] = Latest()
        self.server = AdsServer("weighbridge", snapshots, warmth=ask_over(http), recall=recall_over(http))
        entrance = Entrance(
            port=self.port,
            debug_headers=self._debug_headers,
            tls=self._names.tls is not None,
            keys=self._names.keys is not None,
            requests=self._requests,
            name=self._name,
        )
        self.loop = Loop(
            loaded,
            self.server.states,
            snapshots,
            scope=Scope(),
            entrance=entrance,
            names=self._names,
            prometheus=self._prometheus,
            authorities=self._authorities,
        )
        self.xds_port = await self.server.start("127.0.0.1:0")
        self._running.push_async_callback(self.server.stop, 0.1)
        self.reporter = Reporter(self.loop, self.url, time.monotonic)
        self._tasks = [
            asyncio.create_task(self._feed(loaded)),
            asyncio.create_task(self.loop.run()),
            asyncio.create_task(self.reporter.run()),
        ]
        for number in range(self._count):
            self.envoys.append(await self._running.enter_async_context(self._make_envoy(number)))
        await self.settle()

    async def add_envoy(self) -> RealEnvoy:
        """One more, which takes callers on the same port, once it holds everything."""
        number = self._count
        self._count += 1
        self.envoys.append(await self._running.enter_async_context(self._make_envoy(number)))
        await self.settle()
        return self.envoys[-1]

    def _make_envoy(self, number: int) -> RealEnvoy:
        admin = free_port()
        settings = BootstrapSettings(
            operator=f"127.0.0.1:{self.xds_port}",
            gateway="weighbridge",
            id=f"envoy-{number}",
            admin_port=admin,
            memory=self._memory,
            dataplanes=self._list_sockets(number),
        )
        return RealEnvoy(bootstrap(settings), *self._arguments, admin_port=admin, concurrency=self._concurrency)

    def _list_sockets(self, number: int) -> tuple[str, ...]:
        return self._dataplanes

    async def _feed(self, loaded: Latest[Loaded]) -> None:
        async for value in watch([self.directory]):
            loaded.set(value)

    async def settle(self, limit: float = 20.0) -> None:
        """Waits until every Envoy holds the newest snapshot of the newest files."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            failed = next((t for t in self._tasks if t.done()), None)
            if failed is not None:
                failed.result()
            states, snapshot = self.server.states.get(), self.loop.snapshots.get()
            if states and snapshot and len(states.envoys) >= self._count:
                kinds = [kind for envoy in states.envoys for kind in envoy.kinds]
                versions = {LABELS[kind]: version for kind, version in snapshot.versions.items()}
                if kinds and all(k.current and versions.get(LABELS.get(k.kind, k.kind)) == k.wanted for k in kinds):
                    return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not settled: {self.server.states.get()}\n{[e.log for e in self.envoys]}")

    async def apply(self, *objects: dict[str, Any], name: str = "objects.yaml") -> None:
        """Writes the objects and waits until the Envoys hold what they ask for."""
        before, resolved = self.loop.loaded.version, self.loop.resolved
        self.write(*objects, name=name)
        await self.loop.loaded.wait_newer(before)
        while self.loop.resolved is resolved:  # noqa: ASYNC110  what the loop keeps tells no event
            await asyncio.sleep(0.005)
        await self.settle()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Ends everything that was started."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._running.aclose()
        self._folder.cleanup()
