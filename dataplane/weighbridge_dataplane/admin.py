"""What people and Prometheus may ask of the data plane: `/metrics`, `/healthz`, `/choices`."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from weighbridge_api.wire import TOLD_MOST
from weighbridge_dataplane.facts import Member
from weighbridge_dataplane.records import Levels, Records

AT_ONCE = 10  # choices that are told before a request has its turn
LAST = 20  # choices where nobody says how many


class ListenError(OSError):
    """Nobody can listen there."""


class Admin:
    """`start`, and `stop` at the end. `members` are the nodes of now, by address; `socket` tells processes apart."""

    def __init__(
        self,
        records: Records,
        measure: Callable[[], Levels],
        serving: Callable[[], bool],
        members: Callable[[], Mapping[str, Member]],
        socket: str,
    ) -> None:
        self._records, self._measure, self._serving, self._members = records, measure, serving, members
        self._who = {"host": platform.node(), "process": os.getpid(), "socket": socket}
        self._runners: list[web.AppRunner] = []

    async def start(self, host: str, port: int, *, choices: bool = True) -> int:
        """Listens there as well; the port. `choices`: also `/choices`, which tells of requests. Raises ListenError."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/choices", self._choices if choices else _refuse_choices)
        runner = web.AppRunner(app, access_log=None)
        self._runners.append(runner)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        text = self._records.print_metrics(self._measure(), time.process_time())
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _health(self, _: web.Request) -> web.Response:
        serving = self._serving()
        return web.Response(text="ok\n" if serving else "ending\n", status=200 if serving else 503)

    async def _choices(self, request: web.Request) -> web.Response:
        text, request_id = request.query.get("last", str(LAST)), request.query.get("id")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= TOLD_MOST):
            return web.json_response({"error": {"message": f"last: give a number of 1 to {TOLD_MOST}"}}, status=400)
        names = {address: member.node for address, member in self._members().items()}
        kept = self._records.choices
        head, found = json.dumps(self._who | kept.tell()), []
        for choice in kept.find(int(text[:6]), request_id, names):
            found.append(json.dumps(choice))
            if len(found) % AT_ONCE == 0:
                await asyncio.sleep(0)  # a request may be waiting
        body = f'{head[:-1]}, "choices": [{", ".join(found)}]}}'
        return web.Response(text=body, content_type="application/json")


async def _refuse_choices(_: web.Request) -> web.Response:
    told = "this port tells numbers alone; choices are told where the data plane's --listen is"
    return web.json_response({"error": {"message": told}}, status=404)
