"""A real Prometheus for one test, and exporters that print what a test tells them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from support.envoy import free_port
from weighbridge_operator.latest import Latest
from weighbridge_operator.settings import PrometheusSettings
from weighbridge_operator.sources.merging import Knowledge
from weighbridge_operator.sources.prometheus import Prometheus
from weighbridge_operator.sources.prometheus_answers import Wanted

BINARY = shutil.which("prometheus")
#: For tests that need the real one; says in a line what is not run where it is missing.
needs_prometheus = pytest.mark.skipif(
    BINARY is None, reason="not run: there is no prometheus in PATH (Debian's package prometheus brings it)"
)


class Exporters:
    """Pages by path, behind one port; `hits` counts how often each was read."""

    def __init__(self) -> None:
        self.pages: dict[str, str | Callable[[], str]] = {}
        self.hits: dict[str, int] = {}
        self.place = ""

    async def __aenter__(self) -> Exporters:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.place = "{}:{}".format(*self._runner.addresses[0][:2])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.hits[request.path] = self.hits.get(request.path, 0) + 1
        page = self.pages.get(request.path)
        page = page() if callable(page) else page
        if page is None:
            return web.Response(status=404)
        return web.Response(text=page, headers={"Content-Type": "text/plain; version=0.0.4"})


def job(name: str, target: str, labels: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A scrape job of one target; its path is the job's name unless another is given."""
    return {
        "job_name": name,
        "metrics_path": f"/{name}",
        "static_configs": [{"targets": [target], "labels": dict(labels or {})}],
    } | more


class RealPrometheus:
    """`async with RealPrometheus(jobs) as prometheus:` scrapes them; ends by its process alone."""

    def __init__(
        self, jobs: Sequence[Mapping[str, Any]], *, interval: str = "300ms", web_config: Mapping[str, Any] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="prometheus-")
        self.directory = Path(self._folder.name)
        timing = {"scrape_interval": interval, "scrape_timeout": interval}
        self._config = {"global": timing, "scrape_configs": list(jobs)}
        self._web = web_config
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        scheme = "https" if web_config and "tls_server_config" in web_config else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> RealPrometheus:
        await self.start()
        return self

    async def start(self) -> None:
        """Starts it, or starts it again with the data that it had."""
        assert BINARY is not None
        config = self.directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config))
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={self.directory / 'data'}"]
        arguments += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        if self._web is not None:
            path = self.directory / "web.yml"
            path.write_text(yaml.safe_dump(dict(self._web)))
            arguments.append(f"--web.config.file={path}")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, *arguments], stdout=log, stderr=log)  # noqa: ASYNC220
        end = time.monotonic() + 30
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end:
                assert self._process.poll() is None, (self.directory / "log").read_text()
                try:
                    async with session.get(f"{self.url}/-/ready", ssl=False) as answer:
                        if answer.status in (200, 401):
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError(f"prometheus is not ready: {(self.directory / 'log').read_text()}")

    def kill(self) -> None:
        """At once, as a lost machine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    async def wait_series(self, selector: str, count: int, limit: float = 20.0) -> None:
        """Until so many series match, each with two samples at least."""
        end = time.monotonic() + limit
        result: list[Any] = []
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end:
                query = {"query": f"count_over_time({selector}[1m]) >= 2"}
                async with session.post(f"{self.url}/api/v1/query", data=query) as answer:
                    result = (await answer.json())["data"]["result"]
                if len(result) >= count:
                    return
                await asyncio.sleep(0.1)
        raise AssertionError(f"{len(result)} series match {selector}, not {count}")


class Asking:
    """`async with Asking(servers, wanted) as asking:` runs the operator's own rounds of queries against them."""

    def __init__(self, urls: Sequence[str], wanted: Sequence[Wanted], **settings: Any) -> None:
        self.wanted = list(wanted)
        self.out: Latest[Knowledge] = Latest()
        self._work = Prometheus(PrometheusSettings(tuple(urls), **{"interval": 0.5} | settings), self._list, self.out)

    def _list(self) -> Sequence[Wanted]:
        return self.wanted

    async def __aenter__(self) -> Asking:
        self._task = asyncio.create_task(self._work.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def next(self, count: int = 1, limit: float = 30.0) -> Knowledge:
        """What is known after `count` more rounds."""
        version = self.out.version + count - 1
        async with asyncio.timeout(limit):
            return (await self.out.wait_newer(version))[0]

    async def until(self, true: Callable[[Knowledge], bool], limit: float = 30.0) -> Knowledge:
        """The first knowledge of which it is true."""
        end = time.monotonic() + limit
        knowledge = await self.next()
        while not true(knowledge):
            assert time.monotonic() < end, knowledge
            knowledge = await self.next()
        return knowledge


def values(knowledge: Knowledge, node: str) -> dict[str, float]:
    """The numbers of one node."""
    found = knowledge.found.get(node)
    return {signal: dated.value for signal, dated in found.numbers.items()} if found else {}


def age(knowledge: Knowledge, node: str, signal: str) -> float:
    """Seconds since the number was taken."""
    return time.monotonic() - knowledge.found[node].numbers[signal].at


Scenario = Callable[[], Coroutine[Any, Any, None]]


def run_together(*scenarios: Scenario) -> Any:
    """A fixture that runs scenarios side by side, for a Prometheus scrapes nothing in its first five seconds.

    A test awaits one of the tasks by the scenario's name.
    """

    @pytest_asyncio.fixture(loop_scope="module", scope="module")
    async def outcomes() -> AsyncIterator[Mapping[str, asyncio.Task[None]]]:
        tasks = {scenario.__name__: asyncio.create_task(scenario()) for scenario in scenarios}
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    return outcomes
