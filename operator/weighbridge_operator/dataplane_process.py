"""The data plane as a child beside an Envoy of our own: there once a policy asks for it, gone when we are.

Envoy's bootstrap leads to its socket from the start, and a health check there says whether somebody answers, so that it
may come, die and come again at any time. On Linux the socket has no file, which a killed process could leave behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from weighbridge_operator import tether
from weighbridge_operator.envoy_process import FIRST_PAUSE, LONGEST_PAUSE, EnvoyProcess, describe_end, end_process
from weighbridge_operator.xds.bootstrap import LOOPBACK

TAIL = 4096  # bytes of its last words that are told
END_LIMIT = 2.0  # seconds from SIGTERM to SIGKILL


def choose_socket() -> str:
    """A name that nobody has."""
    name = f"weighbridge-{secrets.token_hex(8)}"
    return f"@{name}" if sys.platform == "linux" else str(Path(tempfile.gettempdir()) / name)


class DataplaneProcess:
    """`run` keeps it alive beside `envoy` from when `wanted` returns until it is cancelled."""

    def __init__(self, socket: str, envoy: EnvoyProcess, wanted: Callable[[], Awaitable[None]]) -> None:
        self._socket, self._envoy, self._wanted = socket, envoy, wanted
        self._log = logging.getLogger("dataplane")
        self.pid: int | None = None

    async def run(self) -> None:
        """Starts it, and again whenever it ends, or Envoy and its admin interface are others."""
        await self._wanted()
        pause = FIRST_PAUSE
        while True:
            await self._envoy.wait_ready()
            why = await self._live(f"http://{LOOPBACK}:{self._envoy.admin_port}")
            if why is None:
                pause = FIRST_PAUSE
                continue
            self._log.error("the data plane %s; the weights decide meanwhile; starting it again in %.1f s", why, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _live(self, admin: str) -> str | None:
        """One life; why it ended, None where it was Envoy that did."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), sys.executable),
            *("-m", "weighbridge_api.console", "dataplane", "--socket", self._socket, "--admin-url", admin),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = process.pid
        ended = asyncio.ensure_future(self._follow(process))
        gone = asyncio.ensure_future(self._wait_gone())
        try:
            await asyncio.wait((ended, gone), return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else None
        finally:
            self.pid = None
            gone.cancel()
            await end_process(process, END_LIMIT)
            ended.cancel()
            with suppress(asyncio.CancelledError):
                await ended

    async def _follow(self, process: asyncio.subprocess.Process) -> str:
        assert process.stderr is not None
        said = b""
        while part := await process.stderr.read(TAIL):
            said = (said + part)[-TAIL:]
        lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
        return describe_end(await process.wait(), lines[-3:])

    async def _wait_gone(self) -> None:
        version, ready = self._envoy.ready.version, True
        while ready:
            ready, version = await self._envoy.ready.wait_newer(version)
