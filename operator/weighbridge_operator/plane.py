"""The control plane put together: files, loop, ADS server, report and the small HTTP server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

import aiohttp

from weighbridge_operator.admin import Admin
from weighbridge_operator.core.doors import DoorNames
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.keeping import keep_going
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.memory_file import keep_memory, read_memory
from weighbridge_operator.protection import describe_entrance, list_notices, print_url, protect
from weighbridge_operator.report import Report
from weighbridge_operator.settings import GATEWAY, Settings
from weighbridge_operator.sources.files import Loaded, watch
from weighbridge_operator.state import Ref
from weighbridge_operator.status import Reporter
from weighbridge_operator.xds.recall import recall_over
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot
from weighbridge_operator.xds.warmth import ask_over

log = logging.getLogger("weighbridge")


class ControlPlane:
    """`async with ControlPlane(settings) as plane:` serves xDS and its admin interface; `run` does the work."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http: aiohttp.ClientSession | None = None
        self.xds_port = self.admin_port = 0

    @property
    def reports(self) -> Latest[Report]:
        return self.reporter.reports

    async def __aenter__(self) -> ControlPlane:
        settings = self._settings
        self._protection = await protect(settings)
        self._http = aiohttp.ClientSession()
        self.loaded: Latest[Loaded] = Latest()
        snapshots: Latest[Snapshot] = Latest()
        self.server = AdsServer(
            GATEWAY,
            snapshots,
            warmth=ask_over(self._http),
            recall=recall_over(self._http),
            identity=self._protection.identity,
        )
        self.loop = Loop(
            self.loaded,
            self.server.states,
            snapshots,
            scope=Scope(settings.namespace),
            entrance=describe_entrance(settings),
            names=DoorNames(settings.namespace, settings.security.entrance, settings.security.keys),
            weighed=read_memory(settings.state, time.monotonic()) if settings.state else None,
        )
        self.reporter = Reporter(self.loop, print_url(settings), time.monotonic, list_notices(settings))
        self.admin = Admin(self.reports)
        try:
            self.xds_port = await self.server.start(
                f"{settings.xds[0]}:{settings.xds[1]}", self._protection.credentials
            )
            self.admin_port = await self.admin.start(*settings.admin)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.admin.stop()
        await self.server.stop(0.2)
        if self._http is not None:
            await self._http.close()

    async def run(self) -> None:
        """Works until cancelled."""
        for notice in list_notices(self._settings):
            log.warning("%s", notice)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_going("reading files", self._read_files))
            tasks.create_task(self.loop.run())
            tasks.create_task(keep_going("following certificates", self._protection.run))
            tasks.create_task(keep_going("reporting", self.reporter.run))
            if self._settings.kubernetes is not None:
                tasks.create_task(keep_going("writing statuses", self._write_statuses))
            if self._settings.state is not None:
                tasks.create_task(keep_memory(self._settings.state, lambda: self.loop.weighed))

    async def _read_files(self) -> None:
        said: Mapping[Ref, str] = {}
        async for loaded in watch(self._settings.paths):
            now = {r.ref: r.message for r in loaded.rejections}
            for ref, message in now.items():
                if said.get(ref) != message:
                    log.warning("%s: %s", ref, message)
            said = now
            self.loaded.set(loaded)

    async def _write_statuses(self) -> None:
        # The package kubernetes is there only where it is needed.
        from weighbridge_operator.status_writer.shell import write_statuses  # noqa: PLC0415

        assert self._settings.kubernetes is not None
        await write_statuses(self.reports, self._settings.kubernetes)
