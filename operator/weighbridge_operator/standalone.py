"""`weighbridge up`: the control plane and an Envoy of its own, and a live table where there is a terminal."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from weighbridge_operator.dataplane_process import DataplaneProcess, choose_socket
from weighbridge_operator.ending import Ending
from weighbridge_operator.envoy_process import EnvoyProcess, EnvoySettings, check_port_free
from weighbridge_operator.latest import Latest
from weighbridge_operator.plane import ControlPlane
from weighbridge_operator.report import Report
from weighbridge_operator.request_lines import PassedLines, require_file
from weighbridge_operator.settings import GATEWAY, Settings
from weighbridge_operator.views.plain import PlainView
from weighbridge_operator.views.screen import LineHandler
from weighbridge_operator.xds.request_log import STDOUT

if TYPE_CHECKING:
    from weighbridge_operator.views.live import LiveView

Work = Callable[[ControlPlane], Awaitable[None]]


async def run_up(settings: Settings, *beside: Work) -> int:
    """Runs the gateway until a signal comes. `beside` runs with it. Raises OSError where a port is taken."""
    check_port_free(*settings.entrance)
    stdout: int | None = None
    async with AsyncExitStack() as running:
        if settings.requests is not None and settings.requests.place == STDOUT:
            stdout = (await running.enter_async_context(PassedLines(sys.stdout.fileno()))).writing
        elif settings.requests is not None:
            requests = replace(settings.requests, place=require_file(settings.requests.place))
            settings = replace(settings, requests=requests)
        plane = await running.enter_async_context(ControlPlane(settings))
        socket = choose_socket()
        envoy = EnvoyProcess(_describe_envoy(settings, plane, socket), stdout=stdout)
        dataplane = DataplaneProcess(socket, envoy, plane.loop.wait_precise, _list_flags(settings))
        plane.admin.envoy, plane.admin.choices = envoy.ready, dataplane.tell_choices
        view = _make_view(settings, plane.reports, passes=True)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, envoy.reopen_files)
        await run_until_signal(plane.run(), envoy.run(), dataplane.run(), view.run(), *(work(plane) for work in beside))
    return 0


def _list_flags(settings: Settings) -> tuple[str, ...]:
    """Of the data plane."""
    flags = () if settings.kept_choices is None else ("--keep-choices", str(settings.kept_choices))
    if (place := settings.dataplane_metrics) is None:
        return flags
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return (*flags, "--metrics", f"{host}:{place[1]}")


def _describe_envoy(settings: Settings, plane: ControlPlane, socket: str) -> EnvoySettings:
    return EnvoySettings(
        operator=f"{settings.xds[0]}:{plane.xds_port}",
        gateway=GATEWAY,
        binary=settings.envoy,
        concurrency=settings.concurrency,
        memory=settings.envoy_memory,
        dataplanes=(socket,),
    )


async def run_operator(settings: Settings) -> int:
    """Runs the control plane alone until a signal comes."""
    async with ControlPlane(settings) as plane:
        view = _make_view(settings, plane.reports)
        await run_until_signal(plane.run(), view.run())
    return 0


def _make_view(settings: Settings, reports: Latest[Report], passes: bool = False) -> LiveView | PlainView:
    """A live table on a terminal, else lines; what is logged goes through it, so that nothing tears the table.

    Where standard output has the requests, and of `up` nothing else, the lines go to standard error.
    """
    view: LiveView | PlainView
    requests = passes and settings.requests is not None and settings.requests.place == STDOUT
    if settings.output == "auto" and settings.live and not requests:
        from weighbridge_operator.views.live import LiveView  # noqa: PLC0415  its package is for terminals alone

        view = LiveView(reports, settings.hints, colour=settings.colour)
    else:
        stream = sys.stderr if requests else sys.stdout
        view = PlainView(reports, settings.hints, stream=stream, output="json" if settings.output == "json" else "text")
    logging.getLogger().addHandler(LineHandler(view.log))
    return view


async def run_until_signal(*work: Awaitable[None]) -> None:
    """Runs all of it; the first signal, or the first failure, ends the rest."""
    ending = Ending()
    tasks = [asyncio.ensure_future(each) for each in work]
    waiting = asyncio.ensure_future(ending.told.wait())
    try:
        await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, waiting):
            task.cancel()
        await asyncio.gather(*tasks, waiting, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            with suppress(asyncio.CancelledError):
                task.result()
