"""The control plane put together: files or cluster, loop, ADS server, report and the small HTTP server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp

from weighbridge_operator.admin import Admin
from weighbridge_operator.authorities import read_authorities
from weighbridge_operator.core.doors import DoorNames, Doors
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.keeping import keep_going
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.memory_file import keep_memory, read_memory
from weighbridge_operator.protection import describe_entrance, list_notices, print_url, protect, remark
from weighbridge_operator.report import Remarks, Report
from weighbridge_operator.settings import GATEWAY, Settings
from weighbridge_operator.sources.files import watch
from weighbridge_operator.state import Objects, Ref
from weighbridge_operator.status import Reporter
from weighbridge_operator.traffic import Traffic
from weighbridge_operator.xds.recall import recall_over
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot
from weighbridge_operator.xds.warmth import ask_over

if TYPE_CHECKING:
    from weighbridge_operator.cluster import Cluster

log = logging.getLogger("weighbridge")


class ControlPlane:
    """`async with ControlPlane(settings) as plane:` serves xDS and its admin interface; `run` does the work."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = AsyncExitStack()
        self._cluster: Cluster | None = None
        self.xds_port = self.admin_port = 0

    @property
    def reports(self) -> Latest[Report]:
        return self.reporter.reports

    async def __aenter__(self) -> ControlPlane:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        settings = self._settings
        self._protection = await protect(settings)
        http = await self._open.enter_async_context(aiohttp.ClientSession())
        self.loaded: Latest[Objects] = Latest()
        snapshots: Latest[Snapshot] = Latest()
        if settings.kubernetes is not None:
            from weighbridge_operator.cluster import Cluster  # noqa: PLC0415  kopf is installed for clusters alone

            self._cluster = await self._open.enter_async_context(
                Cluster(settings.kubernetes, settings.security, self.loaded)
            )
        scope = self._cluster.scope if self._cluster else Scope(settings.namespace)
        self.server = self._make_server(http, snapshots, scope)
        self._open.push_async_callback(self.server.stop, 0.2)
        self.loop = Loop(
            self.loaded,
            self.server.states,
            snapshots,
            scope=replace(scope, entrance=settings.entrance),
            entrance=describe_entrance(settings, self._cluster.identity if self._cluster else None),
            places=self._cluster.source.envoys if self._cluster else None,
            names=DoorNames(settings.namespace, settings.security.entrance, settings.security.keys),
            prometheus=settings.prometheus,
            authorities=read_authorities(),
        )
        self.reporter = Reporter(self.loop, print_url(settings), time.monotonic, self._remark)
        # In a cluster every Envoy is scraped itself; the same numbers twice would be counted twice.
        traffic = Traffic(http, self._find_statistics).read if settings.kubernetes is None else None
        self.admin = Admin(self.reports, traffic)
        self._open.push_async_callback(self.admin.stop)
        if self._protection.ready:
            await self._open_xds()
        self.admin_port = await self.admin.start(*settings.admin)

    def _make_server(self, http: aiohttp.ClientSession, snapshots: Latest[Snapshot], scope: Scope) -> AdsServer:
        return AdsServer(
            GATEWAY,
            snapshots,
            warmth=ask_over(http),
            recall=recall_over(http),
            identity=self._protection.identity,
            refused=scope.refused,
            listed=self._list_statistics,
        )

    def _list_statistics(self) -> list[str]:
        places = self._cluster.source.envoys.get() if self._cluster else None
        return [place.url for place in (places or {}).values()]

    def _find_statistics(self) -> dict[str, str]:
        states = self.server.states.get()
        return {envoy.id: envoy.stats for envoy in states.envoys if envoy.stats} if states else {}

    def _remark(self, doors: Doors) -> Remarks:
        return remark(self._settings, self._protection.material.get(), doors, time.time())

    async def _open_xds(self) -> None:
        if self._protection.wanted:
            await self._protection.material.wait_newer()
        host, port = self._settings.xds
        self.xds_port = await self.server.start(f"{host}:{port}", self._protection.credentials)

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def run(self) -> None:
        """Works until cancelled."""
        for notice in list_notices(self._settings):
            log.warning("%s", notice)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cluster.run() if self._cluster else keep_going("reading files", self._read_files))
            if self._settings.kubernetes is not None:  # of files the views tell each problem
                tasks.create_task(self._tell_rejections())
            tasks.create_task(self._plan())
            tasks.create_task(keep_going("following certificates", self._protection.run))
            if not self._protection.ready:
                tasks.create_task(keep_going("opening xDS", self._open_xds))
            tasks.create_task(keep_going("reporting", self.reporter.run))
            if self._settings.kubernetes is not None:
                tasks.create_task(keep_going("writing statuses", self._write_statuses))
            if self._settings.state is not None:
                tasks.create_task(keep_memory(self._settings.state, lambda: self.loop.weighed))

    async def _read_files(self) -> None:
        async for loaded in watch(self._settings.paths):
            self.loaded.set(loaded)

    async def _tell_rejections(self) -> None:
        said: Mapping[Ref, str] = {}
        version = 0
        while True:
            loaded, version = await self.loaded.wait_newer(version)
            now = {r.ref: r.told for r in loaded.rejections}
            for ref, message in now.items():
                if said.get(ref) != message:
                    log.warning("%s: %s", ref, message)
            said = now

    async def _plan(self) -> None:
        """From the last weights on, which are read while objects are listed."""
        kubernetes, state = self._settings.kubernetes, self._settings.state
        if kubernetes is not None:
            from weighbridge_operator.status_writer.recalling import recall_weights  # noqa: PLC0415  as below

            self.loop.weighed = await recall_weights(kubernetes)
        elif state is not None:
            self.loop.weighed = read_memory(state, time.monotonic())
        await self.loop.run()

    async def _write_statuses(self) -> None:
        # The package kubernetes is there only where it is needed.
        from weighbridge_operator.status_writer.shell import write_statuses  # noqa: PLC0415

        assert self._settings.kubernetes is not None
        await write_statuses(self.reporter, self._settings.kubernetes)
