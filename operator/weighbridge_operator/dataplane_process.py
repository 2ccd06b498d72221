"""The data plane as a child beside an Envoy of our own: there once a policy asks for it, gone when we are.

Envoy's bootstrap leads to its socket from the start, and a health check there says whether somebody answers, so that it
may come, die and come again at any time. On Linux the socket has no file, which a killed process could leave behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
from yarl import URL

from weighbridge_operator import tether
from weighbridge_operator.envoy_process import FIRST_PAUSE, LONGEST_PAUSE, EnvoyProcess, describe_end, end_process
from weighbridge_operator.xds.bootstrap import LOOPBACK

TAIL = 4096  # bytes of its last words that are told
END_LIMIT = 2.0  # seconds from SIGTERM to SIGKILL
ANSWER_LIMIT = 2.0  # seconds for what it tells of its choices
BEAT = 1.0  # seconds between two looks whether it answers
STILL, START = 10.0, 30.0  # seconds without an answer, after which it is ended; the same for the first
WELL = 60.0  # seconds of life, after which the pause is short again


def choose_socket() -> str:
    """A name that nobody has."""
    name = f"weighbridge-{secrets.token_hex(8)}"
    return f"@{name}" if sys.platform == "linux" else str(Path(tempfile.gettempdir()) / name)


class DataplaneProcess:
    """`run` keeps it answering beside `envoy` from when `wanted` returns until it is cancelled. `flags` are its own."""

    def __init__(
        self, socket: str, envoy: EnvoyProcess, wanted: Callable[[], Awaitable[None]], flags: tuple[str, ...] = ()
    ) -> None:
        self._socket, self._envoy, self._wanted, self._flags = socket, envoy, wanted, flags
        self._log = logging.getLogger("dataplane")
        self.pid: int | None = None
        self._url: str | None = None

    async def tell_choices(self, query: str) -> tuple[int, bytes]:
        """Status and JSON of what it answers to `/choices?QUERY`."""
        if self._url is None:
            return _refuse(
                "no data plane runs here now: it starts once a policy has `balance.precise`, "
                "and anew some seconds after it ended"
            )
        limit = aiohttp.ClientTimeout(total=ANSWER_LIMIT)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as http,
                http.get(URL(f"{self._url}/choices?{query}", encoded=True)) as answer,
            ):
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return _refuse("the data plane does not answer now; ask again in a moment")

    async def run(self) -> None:
        """Starts it, and again whenever it ends, or Envoy and its admin interface are others."""
        await self._wanted()
        pause = FIRST_PAUSE
        while True:
            await self._envoy.wait_ready()
            began = time.monotonic()
            why = await self._live(f"http://{LOOPBACK}:{self._envoy.admin_port}")
            if why is None or time.monotonic() - began > WELL:
                pause = FIRST_PAUSE
            if why is None:
                continue
            self._log.error("the data plane %s; the weights decide meanwhile; starting it again in %.1f s", why, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _live(self, admin: str) -> str | None:
        """One life; why it ended, None where it was Envoy that did."""
        try:
            process = await self._start(admin)
        except OSError as error:  # no memory or no process to be had now: the gateway serves without
            return f"could not be started ({error.strerror})"
        self.pid = process.pid
        ended = asyncio.ensure_future(self._follow(process))
        hearing = asyncio.ensure_future(self._hear(process))
        gone, still = asyncio.ensure_future(self._wait_gone()), asyncio.ensure_future(self._wait_still())
        try:
            await asyncio.wait((ended, gone, still), return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else "stood still" if still.done() else None
        finally:
            self.pid = self._url = None
            for task in (gone, still, hearing):
                task.cancel()
            await end_process(process, END_LIMIT)
            ended.cancel()
            with suppress(asyncio.CancelledError):
                await ended

    async def _start(self, admin: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), sys.executable),
            *("-m", "weighbridge_api.console", "dataplane", "--socket", self._socket, "--admin-url", admin),
            *("--listen", f"{LOOPBACK}:0", *self._flags),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        """Its first line tells the port; what follows is read and forgotten."""
        assert process.stdout is not None
        port = (await process.stdout.readline()).rpartition(b" ")[2].strip()
        self._url = f"http://{LOOPBACK}:{int(port)}" if port.isdigit() else None
        while await process.stdout.read(TAIL):
            pass

    async def _follow(self, process: asyncio.subprocess.Process) -> str:
        """Says what it says, line by line, until it ends; how it ended, with its last words."""
        assert process.stderr is not None
        last: deque[str] = deque(maxlen=3)
        rest = b""
        while part := await process.stderr.read(TAIL):
            *lines, rest = (rest + part).split(b"\n")
            rest = rest[-TAIL:]
            for line in (told for each in lines if (told := each.decode(errors="replace").rstrip())):
                last.append(line.strip())
                self._log.warning("%s", line.removeprefix(f"{self._log.name}: "))
        if left := rest.decode(errors="replace").strip():
            last.append(left)
        return describe_end(await process.wait(), last)

    async def _wait_still(self) -> None:
        """Until it has not answered for long."""
        answered, patience = time.monotonic(), START
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT)) as http:
            while time.monotonic() - answered < patience:
                await asyncio.sleep(BEAT)
                if self._url is not None:
                    with suppress(aiohttp.ClientError, OSError, TimeoutError):
                        async with http.get(f"{self._url}/healthz"):
                            answered, patience = time.monotonic(), STILL

    async def _wait_gone(self) -> None:
        version, ready = self._envoy.ready.version, True
        while ready:
            ready, version = await self._envoy.ready.wait_newer(version)


def _refuse(message: str) -> tuple[int, bytes]:
    return 503, json.dumps({"error": {"message": message}}).encode()
