"""`weighbridge up --request-log`: a file that can be moved away, standard output that nobody reads, mistakes told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import yaml

from support.envoy import free_port
from support.gateway import Upstream
from support.request_log import read_lines
from support.stack import node
from weighbridge_operator import request_lines
from weighbridge_operator.cli import main
from weighbridge_operator.request_lines import PassedLines, require_file

COMMAND = "import sys; from weighbridge_api.console import main; sys.exit(main())"
LIMIT = 30.0  # seconds; a busy machine


class Up:
    """The command as a process, its entrance and its admin interface."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, admin: int) -> None:
        self.process, self._url = process, f"http://127.0.0.1:{port}/v1/chat/completions"
        self._admin = f"http://127.0.0.1:{admin}"

    async def ask(self, count: int) -> None:
        """This many chats, each of which must be answered."""
        async with aiohttp.ClientSession() as http:
            for _ in range(count):
                async with http.post(self._url, json={"model": "m"}) as answer:
                    assert answer.status == 200

    async def wait(self) -> None:
        """Until it is ready; from then on every request is answered."""
        async with asyncio.timeout(LIMIT):
            while await self.read("/readyz") is None:
                assert self.process.returncode is None
                await asyncio.sleep(0.02)

    async def read(self, path: str) -> str | None:
        """A page of the admin interface; None where there is none yet."""
        async with aiohttp.ClientSession() as http:
            with suppress(aiohttp.ClientError):
                async with http.get(self._admin + path) as answer:
                    return await answer.text() if answer.status == 200 else None
        return None


@asynccontextmanager
async def up(folder: Path, place: str) -> AsyncIterator[Up]:
    port, admin = free_port(), free_port()
    async with Upstream() as upstream:
        (folder / "nodes.yaml").write_text(yaml.safe_dump(node("a", upstream.port, engine="openai")))
        flags = ("--port", str(port), "--admin", f"127.0.0.1:{admin}", "--state", str(folder / "state"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", COMMAND, "up", "-f", str(folder / "nodes.yaml"), "--request-log", place, *flags),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        try:
            running = Up(process, port, admin)
            await running.wait()
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.envoy
async def test_the_file_can_be_moved_away_and_is_written_anew(tmp_path: Path) -> None:
    log, moved = tmp_path / "requests.log", tmp_path / "requests.log.1"
    async with up(tmp_path, str(log)) as running:
        await running.ask(3)
        await read_lines(log, 3)
        assert log.stat().st_mode & 0o007 == 0
        log.rename(moved)
        await running.ask(2)
        await read_lines(moved, 5)
        running.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(LIMIT):
            while not log.exists():  # noqa: ASYNC110  Envoy tells nobody
                await asyncio.sleep(0.02)
        assert log.stat().st_mode & 0o007 == 0
        await running.ask(4)
        assert {line["status"] for line in await read_lines(log, 4)} == {200}
        assert running.process.returncode is None


@pytest.mark.envoy
async def test_one_page_has_what_the_operator_and_its_envoy_know(tmp_path: Path) -> None:
    async with up(tmp_path, "/dev/full") as running:
        await running.ask(3)
        async with asyncio.timeout(LIMIT):
            while not re.search(r"weighbridge_request_log_failures_total\{.*\} [1-9]", await page(running)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        text = await page(running)
    assert (
        'weighbridge_requests_total{envoy="standalone",type="text",mode="whole",model="m",node="a",code="200"} 3'
        in text
    )
    assert "weighbridge_node_weight{" in text


async def page(running: Up) -> str:
    text = await running.read("/metrics")
    assert text
    return text


@pytest.mark.envoy
async def test_standard_output_has_the_requests_alone(tmp_path: Path) -> None:
    async with up(tmp_path, "-") as running:
        await running.ask(5)
        running.process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(running.process.communicate(), LIMIT)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["status"] for line in lines] == [200] * 5
    assert all(line["v"] == 1 for line in lines)
    assert b"a" in err
    assert b'"v":1' not in err


async def test_lines_that_nobody_takes_are_dropped_whole_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(request_lines, "KEPT", 50_000)
    reading, out = os.pipe()
    line = b'{"v":1,"n":"' + b"x" * 200 + b'"}\n'
    with caplog.at_level(logging.WARNING, "weighbridge"):
        async with PassedLines(out) as lines:
            for _ in range(300):
                lines.feed(line[:50])
                lines.feed(line[50:] * 1 + line * 9)
            assert "nobody takes them from standard output" in caplog.text
            os.set_blocking(reading, False)
            got = await read_all(reading, lines)
            assert set(got.splitlines(keepends=True)) == {line}
            assert 40_000 < len(got) < 200_000 < 3000 * len(line)
            lines.feed(line)  # and once there is a reader again, it goes on
            assert await read_all(reading, lines) == line
    os.close(reading)
    os.close(out)


async def read_all(reading: int, lines: PassedLines) -> bytes:
    """What comes until nothing waits any more."""
    got = b""
    async with asyncio.timeout(LIMIT):
        while True:
            settled = not lines.waiting
            try:
                got += os.read(reading, 2**16)
            except BlockingIOError:
                if settled:
                    return got
                await asyncio.sleep(0.001)


async def test_the_end_does_not_wait_for_a_reader() -> None:
    reading, out = os.pipe()
    async with asyncio.timeout(10):
        async with PassedLines(out) as lines:
            lines.feed(b"x" * 2**17 + b"\n")
    os.close(reading)  # the thread that still writes ends with it
    os.close(out)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "none" / "log", tmp_path / "pipe"):
        with pytest.raises(OSError, match=f"cannot write the request log {place}"):
            require_file(str(place))
    assert require_file(str(tmp_path / "log")) == str(tmp_path / "log")
    assert require_file("/dev/null") == "/dev/null"


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        (["--request-log-tokens"], "--request-log-tokens is part of --request-log"),
        (["--request-log", ""], "wants the path of a file, or -"),
        (["--request-log", "a\nb"], "wants the path of a file, or -"),
        (["--request-log", "/nowhere/at/all"], "cannot write the request log /nowhere/at/all"),
    ],
)
def test_mistakes_are_told_in_one_line(
    flags: list[str], remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("up", ["-f", str(tmp_path), "--port", "0", *flags]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert remedy in said
