"""Three simulated nodes, `weighbridge operator` and an Envoy beside it, each a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from support.envoy import find_envoy, free_port

NAMES = "abc"
ANSWER = 8  # tokens
MODEL = "m"
START_LIMIT = 60.0  # seconds; a busy machine
COMMAND = "import sys; from weighbridge_api.console import main; sys.exit(main())"


class Process:
    """A child process that is killed with the block, its output in a file."""

    def __init__(self, *command: str, log: Path) -> None:
        self._command, self._log = command, log
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    async def kill(self) -> None:
        if self.child is not None and self.child.returncode is None:
            self.child.kill()
            await self.child.wait()


def describe_node(name: str, port: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "ModelNode",
        "metadata": {"name": name},
        "spec": {"engine": "vllm", "address": {"host": "127.0.0.1", "port": port}, "models": [{"name": MODEL}]} | spec,
    }


class Scene:
    """Three nodes, the operator and one Envoy, each a process of its own."""

    operator_flags: tuple[str, ...] = ()
    envoy_flags: tuple[str, ...] = ()

    def __init__(self, *, flags: tuple[str, ...] = ()) -> None:
        self._flags = flags
        self._running = AsyncExitStack()
        self.nodes: dict[str, Process] = {}
        self.ports: dict[str, int] = {}
        self.entrance, self.xds, self.admin, self.envoy_admin = (free_port() for _ in range(4))
        self.url = f"http://127.0.0.1:{self.entrance}"

    async def __aenter__(self) -> Scene:
        try:
            await self._start()
        except BaseException:
            await self._running.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def _start(self) -> None:
        folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        self.folder, self.files = folder, folder / "conf"
        self.files.mkdir()
        self.http = await self._running.enter_async_context(aiohttp.ClientSession())
        for name in NAMES:
            await self.start_node(name, free_port())
        self.write(*self.objects())
        await self.start_operator()
        await self._start_envoy()
        try:
            await wait_for(self.answers)
        except TimeoutError:
            logs = (self.folder / name for name in ("log", "envoy.log"))
            told = "\n".join(log.read_text()[-4000:] for log in logs if log.exists())
            raise TimeoutError(f"the gateway does not answer:\n{told}") from None

    def objects(self) -> list[dict[str, Any]]:
        return [describe_node(name, port) for name, port in self.ports.items()]

    def write(self, *objects: dict[str, Any]) -> None:
        target = self.files / "objects.yaml"
        target.with_suffix(".tmp").write_text(yaml.safe_dump_all(objects, sort_keys=False))
        target.with_suffix(".tmp").chmod(0o600)
        target.with_suffix(".tmp").replace(target)

    async def start_node(self, name: str, port: int) -> None:
        node = await self._run(
            *("simulate", "--node", f"name={name},port={port},model={MODEL},answer={ANSWER},size=16"), *self._flags
        )
        self.nodes[name], self.ports[name] = node, port
        await wait_for(lambda: self.is_well(f"http://127.0.0.1:{port}/health"))

    async def control(self, name: str, **patch: Any) -> None:
        async with self.http.post(f"http://127.0.0.1:{self.ports[name]}/sim/control", json=patch) as answer:
            answer.raise_for_status()

    async def start_operator(self) -> None:
        places = ("--xds", f"127.0.0.1:{self.xds}", "--admin", f"127.0.0.1:{self.admin}")
        memory = ("--state", str(self.folder / "state.json"))
        self.operator = await self._run(
            *("operator", "-f", str(self.files), "--port", str(self.entrance), "--output", "plain", *places, *memory),
            *self.operator_flags,
        )

    def bootstrap_flags(self) -> tuple[str, ...]:
        """Which operator, and where the file goes."""
        return ("--operator", f"127.0.0.1:{self.xds}", "--write", str(self.folder / "envoy.json"))

    async def _start_envoy(self) -> None:
        printing = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", COMMAND, "bootstrap", *self.bootstrap_flags()),
            *("--admin-port", str(self.envoy_admin), "--id", "beside"),
        )
        await printing.wait()
        config = self.folder / "envoy.json"
        command = ("--config-path", str(config), "--disable-hot-restart", "--log-level", "error", "--concurrency", "1")
        self.envoy = Process(find_envoy(), *command, *self.envoy_flags, log=self.folder / "envoy.log")
        await self.envoy.start()
        self._running.push_async_callback(self.envoy.kill)

    async def _run(self, *command: str) -> Process:
        process = Process(sys.executable, "-c", COMMAND, *command, log=self.folder / "log")
        await process.start()
        self._running.push_async_callback(process.kill)
        return process

    async def answers(self, model: str = MODEL) -> bool:
        """Whether a request for the model is answered now."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        with suppress(aiohttp.ClientError):
            async with self.http.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                return answer.status == 200
        return False

    async def is_well(self, url: str) -> bool:
        with suppress(aiohttp.ClientError):
            async with self.http.get(url) as answer:
                return answer.status == 200
        return False


async def wait_for(ready: Callable[[], Awaitable[bool]], limit: float = START_LIMIT) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not await ready():
        if time.monotonic() - began > limit:
            raise TimeoutError("it did not come to be")
        await asyncio.sleep(0.02)
    return time.monotonic() - began
