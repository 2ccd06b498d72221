"""`weighbridge dataplane` as a process of its own, beside an Envoy that a test runs."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from support import late_dataplane

TIMEOUTS = "http.entrance.ext_proc.message_timeouts"  # Envoy's count of choices that came too late
CONSOLE = "import sys; from weighbridge_api.console import main; sys.exit(main())"


class Dataplane:
    """`async with Dataplane() as dataplane:` has a socket path; `start` runs the process, as often as one likes."""

    def __init__(self, late: float = 0.0) -> None:
        """`late`: seconds by which nodes' pages come to it late."""
        self._late = late
        self._folder = tempfile.TemporaryDirectory(prefix="dataplane-")
        self.socket = str(Path(self._folder.name) / "socket")
        self.process: asyncio.subprocess.Process | None = None
        self._started: list[asyncio.subprocess.Process] = []
        self.url = ""

    async def start(self, admin_url: str, *arguments: str) -> None:
        """Returns when it listens."""
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", late_dataplane.COMMAND if self._late else CONSOLE),
            *("dataplane", "--socket", self.socket, "--admin-url", admin_url, "--listen", "127.0.0.1:0", *arguments),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {late_dataplane.LATE: str(self._late)},
        )
        self._started.append(self.process)
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            port = (await self.process.stdout.readline()).rpartition(b" ")[2]
            assert (await self.process.stdout.readline()).startswith(b"listening")
        self.url = f"http://127.0.0.1:{int(port)}"

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def metrics(self) -> dict[str, float]:
        """By the series as printed."""
        lines = [line.rpartition(" ") for line in (await self.get("/metrics"))[1].splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in lines}

    async def choices(self, query: str = "last=1000") -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/choices?{query}") as answer:
            found: list[dict[str, Any]] = (await answer.json())["choices"]
            return found

    async def wait_named(self, least: float = 1) -> None:
        """Until so many nodes have a fresh sample."""
        async with asyncio.timeout(30):
            while (await self.metrics()).get("weighbridge_dataplane_fresh_nodes", 0) < least:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> Dataplane:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._folder.cleanup()
