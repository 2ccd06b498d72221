"""Envoy as a child of ours: the real one, through its deaths and ours."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from support.envoy import free_port
from support.gateway import make_assignment, make_cluster, make_listener, make_routes
from weighbridge_operator.envoy_process import (
    EnvoyProcess,
    EnvoySettings,
    find_envoy,
)
from weighbridge_operator.latest import Latest
from weighbridge_operator.xds.kinds import LISTENER
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot, build
from weighbridge_operator.xds.warmth import ask_over

pytestmark = pytest.mark.envoy
LONGEST_TOTAL = 86_400.0  # seconds, the longest that a RoutePolicy may allow
LIMIT = 20.0  # seconds; a busy machine

#: A process that keeps an Envoy, as `weighbridge up` does, and tells its process id. No operator answers.
PARENT = """
import asyncio, logging, signal
from contextlib import suppress
from weighbridge_operator.envoy_process import EnvoyProcess, EnvoySettings

async def main():
    envoy = EnvoyProcess(EnvoySettings("127.0.0.1:9", "weighbridge"))
    running = asyncio.create_task(envoy.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    while envoy.pid is None:
        await asyncio.sleep(0.01)
    print(envoy.pid, envoy.admin_port, flush=True)
    with suppress(asyncio.CancelledError):
        await running

asyncio.run(main())
"""


def lives(pid: int) -> bool:
    """Whether a process runs; one that is dead and waits to be counted doesn't."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def list_files(pid: int) -> list[str]:
    """What a process has mapped or open."""
    mapped = [line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return mapped + [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]


async def wait_for(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], limit: float = LIMIT) -> float:
    """Seconds until it is true."""
    started = time.monotonic()
    async with asyncio.timeout(limit):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                break
            await asyncio.sleep(0.005)
    return time.monotonic() - started


class Slow:
    """A node that answers with a chunk every 20 ms until it is told to end."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.open = 0

    async def __aenter__(self) -> Slow:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end.set()
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while not self.end.is_set():
                writer.write(b"5\r\nchunk\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.write(b"3\r\nend\r\n0\r\n\r\n")
            await writer.drain()
        writer.close()


def make_snapshot(port: int, node: int, buffer: int = 2**20) -> Snapshot:
    """One listener on `port` to one node."""
    listener = make_listener("front", "routes", port)
    listener.per_connection_buffer_limit_bytes.value = buffer
    return build(
        clusters=[make_cluster("c")],
        endpoints=[make_assignment("c", [node])],
        listeners=[listener],
        routes=[make_routes("routes", "c")],
    )


class Gateway:
    """An ADS server in this process, with an Envoy as `weighbridge up` keeps it."""

    def __init__(self, server: AdsServer, snapshots: Latest[Snapshot], envoy: EnvoyProcess, port: int) -> None:
        self.server, self.snapshots, self.envoy, self.port = server, snapshots, envoy, port

    @property
    def current(self) -> bool:
        states = self.server.states.get()
        return bool(states and states.envoys and all(envoy.current for envoy in states.envoys))

    def accepted(self, kind: str) -> str | None:
        """The version that the Envoy accepted last."""
        states = self.server.states.get()
        kinds = states.envoys[0].kinds if states and states.envoys else ()
        return next((state.accepted for state in kinds if state.kind == kind), None)


@asynccontextmanager
async def keep_envoy(node: int = 9) -> AsyncIterator[Gateway]:
    """Runs one, and ends it."""
    async with aiohttp.ClientSession() as http:
        snapshots: Latest[Snapshot] = Latest()
        server = AdsServer("weighbridge", snapshots, warmth=ask_over(http))
        ads, port = await server.start("127.0.0.1:0"), free_port()
        snapshots.set(make_snapshot(port, node))
        envoy = EnvoyProcess(EnvoySettings(f"127.0.0.1:{ads}", "weighbridge"))
        running = asyncio.create_task(envoy.run())
        try:
            async with asyncio.timeout(LIMIT):
                await envoy.wait_ready()
            yield Gateway(server, snapshots, envoy, port)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await server.stop(0.1)


async def test_it_is_ready_soon_and_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with caplog.at_level(logging.INFO):
        async with keep_envoy() as gateway:
            assert time.monotonic() - started < 5.0
            pid = gateway.envoy.pid
            assert pid is not None
            assert lives(pid)
            await wait_for(lambda: gateway.current)
            # Shared memory and files would outlive a kill.
            own = find_envoy(None)
            assert [path for path in list_files(pid) if path.startswith(("/dev/shm", "/tmp")) and path != own] == []
        assert not lives(pid)
    # Of what else this process runs, threads of earlier tests may still speak.
    assert [record.getMessage() for record in caplog.records if record.name == "envoy"] == []


async def test_a_killed_one_comes_back_with_everything(caplog: pytest.LogCaptureFixture) -> None:
    async with keep_envoy() as gateway:
        envoy = gateway.envoy
        first, version = envoy.pid, envoy.ready.version
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(LIMIT):
            assert await envoy.ready.wait_newer(version) == (False, version + 1)
            await envoy.wait_ready()
        assert envoy.pid not in (None, first)
        assert envoy.restarts == 1
        assert envoy.last_error is not None
        assert "SIGKILL" in envoy.last_error
        await wait_for(lambda: gateway.current)
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.close()
    assert [r.getMessage() for r in caplog.records if "SIGKILL" in r.getMessage() and r.levelno == logging.ERROR]


async def test_a_change_of_the_listener_cuts_no_stream() -> None:
    async with (
        Slow() as node,
        keep_envoy(node.port) as gateway,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LIMIT)) as http,
    ):
        url = f"http://127.0.0.1:{gateway.port}/"
        streams = [asyncio.create_task(read_all(http, url)) for _ in range(20)]
        await wait_for(lambda: node.open == len(streams))
        for size in (2**21, 2**22):
            before = gateway.accepted(LISTENER)
            gateway.snapshots.set(make_snapshot(gateway.port, node.port, size))
            await wait_for(lambda before=before: gateway.accepted(LISTENER) != before)
        later = asyncio.create_task(read_all(http, url))
        await wait_for(lambda: node.open == len(streams) + 1)
        await asyncio.sleep(0.3)  # the old listeners drain: what would be cut is cut by now
        assert not [stream for stream in streams if stream.done()]
        node.end.set()
        for text in await asyncio.gather(*streams, later):
            assert text.endswith("end")


async def test_a_replaced_listener_outlasts_any_answer_and_sends_its_callers_to_the_new_one() -> None:
    async with Slow() as node, keep_envoy(node.port) as gateway, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{gateway.envoy.admin_port}/server_info") as answer:
            options = (await answer.json())["command_line_options"]
        assert float(options["drain_time"].removesuffix("s")) > LONGEST_TOTAL
        node.end.set()
        url = f"http://127.0.0.1:{gateway.port}/"
        async with http.get(url) as answer:
            assert "connection" not in answer.headers
            await answer.read()
        before = gateway.accepted(LISTENER)
        gateway.snapshots.set(make_snapshot(gateway.port, node.port, 2**21))
        await wait_for(lambda: gateway.accepted(LISTENER) != before)
        async with http.get(url) as answer:  # on the connection of before
            assert answer.headers["connection"] == "close"


async def read_all(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        return await answer.text()


@asynccontextmanager
async def start_parent() -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int]]:
    """A process that keeps an Envoy, with the Envoy's process id and admin port."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pid = 0
    try:
        async with asyncio.timeout(LIMIT):
            pid, port = map(int, (await process.stdout.readline()).split())
        yield process, pid, port
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if pid and lives(pid):
            os.kill(pid, signal.SIGKILL)


async def test_it_is_gone_soon_after_its_parent_was_killed() -> None:
    async with start_parent() as (parent, pid, port):
        await wait_for(lambda: answers(port))
        parent.kill()
        assert await wait_for(lambda: not lives(pid), 3.0) < 3.0


async def test_it_is_gone_when_its_parent_ends_by_a_signal() -> None:
    async with start_parent() as (parent, pid, port):
        await wait_for(lambda: answers(port))
        parent.terminate()
        async with asyncio.timeout(5):
            assert await parent.wait() == 0
        assert not lives(pid)


async def test_it_serves_while_its_parent_is_frozen_however_much_it_has_to_say() -> None:
    async with start_parent() as (parent, _, port), aiohttp.ClientSession() as http:
        await wait_for(lambda: answers(port))
        parent.send_signal(signal.SIGSTOP)
        async with http.post(f"http://127.0.0.1:{port}/logging?level=trace") as answer:
            assert answer.status == 200
        async with asyncio.timeout(LIMIT):
            for _ in range(1500):  # several times what the pipe holds
                async with http.get(f"http://127.0.0.1:{port}/ready") as answer:
                    await answer.read()
        parent.send_signal(signal.SIGCONT)


async def answers(port: int) -> bool:
    """Whether an admin interface does."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/ready") as answer:
            await answer.read()
            return True
    except aiohttp.ClientError:
        return False
