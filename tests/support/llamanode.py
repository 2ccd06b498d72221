"""A real llama-server on loopback: started, asked past the gateway, killed, and started again on its port."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType

import aiohttp

from support.envoy import free_port

SLOTS = 4  # requests that one works on at once
READY = 60.0  # seconds until it must answer


class LlamaNode:
    """`async with LlamaNode(program, model, "tiny-a") as node:` listens on `node.port` until the block ends."""

    def __init__(self, program: Path, model: Path, alias: str, *flags: str) -> None:
        self.alias, self.port = alias, free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="llama-")
        self._log = Path(self._folder.name) / "log"
        self._command = [
            *(str(program), "--model", str(model), "--alias", alias, "--host", "127.0.0.1", "--port", str(self.port)),
            *("--metrics", "--parallel", str(SLOTS), "--ctx-size", "16384", "--threads", "1", "--threads-http", "16"),
            *("--no-warmup", "--cache-ram", "0", *flags),
        ]
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def start(self) -> None:
        """Starts it and waits until it is well."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY
        async with aiohttp.ClientSession() as http:
            while time.monotonic() < deadline and self._process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/health") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise AssertionError(f"llama-server is not ready: {self.log[-3000:]}")

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def page(self) -> str:
        """Its metrics, as they are printed."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as answer:
            return await answer.text()

    @contextlib.asynccontextmanager
    async def flooded(self, requests: int, tokens: int) -> AsyncIterator[None]:
        """So many long requests of others on it, past the gateway, for as long as the block lasts."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            others = [asyncio.create_task(self._ask_on_and_on(http, tokens)) for _ in range(requests)]
            try:
                yield
            finally:
                for each in others:
                    each.cancel()
                await asyncio.gather(*others, return_exceptions=True)

    async def _ask_on_and_on(self, http: aiohttp.ClientSession, tokens: int) -> None:
        while True:
            body = {"prompt": "others", "max_tokens": tokens, "ignore_eos": True, "cache_prompt": False}
            async with http.post(f"{self.url}/v1/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

    async def __aenter__(self) -> LlamaNode:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        self._folder.cleanup()
