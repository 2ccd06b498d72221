"""`weighbridge up` with a policy that is precise: the data plane beside its Envoy comes, dies, comes again and goes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from support.envoy import free_port
from support.stack import node, policy
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
COMMAND = "import sys; from weighbridge_api.console import main; sys.exit(main())"
LIMIT = 40.0  # seconds; a busy machine


def find_dataplane(parent: int) -> int | None:
    """The child of this process that is a data plane."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            fields = (process / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and b"dataplane" in command and fields[0] != "Z":
            return int(process.name)
    return None


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110  processes tell nobody
            await asyncio.sleep(0.05)


@asynccontextmanager
async def up(folder: Path, *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port, admin = free_port(), free_port()
    listen = ("--port", str(port), "--admin", f"127.0.0.1:{admin}", "--state", str(folder / "state"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, "up", "-f", str(folder / "objects.yaml"), *listen, *flags),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process, f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def choose(http: aiohttp.ClientSession, url: str) -> str | None:
    """Who chose the node of one answer; "" where the weights did, None where there was no answer yet."""
    ask = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    try:
        async with http.post(url, json=ask) as answer:
            await answer.read()
            return answer.headers.get("x-weighbridge-choice", "") if answer.status == 200 else None
    except aiohttp.ClientError:
        return None


async def served(http: aiohttp.ClientSession, url: str, by: str | None = None) -> None:
    """Until there is an answer, whose node was chosen so if that is asked for."""
    async with asyncio.timeout(LIMIT):
        while (found := await choose(http, url)) is None or by not in (None, found):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_it_comes_with_the_policy_is_started_again_and_goes_with_us(tmp_path: Path) -> None:
    specs = [NodeSpec(name=name, models=(("m", "m"),), zero=True) for name in "abc"]
    async with Fleet(specs) as fleet, aiohttp.ClientSession() as http:
        nodes = [node(name, one.port) for name, one in fleet.nodes.items()]
        objects = tmp_path / "objects.yaml"
        objects.write_text(yaml.safe_dump_all(nodes))
        async with up(tmp_path) as (process, url):
            await served(http, url)
            assert find_dataplane(process.pid) is None, "nobody asks for it"
            objects.write_text(yaml.safe_dump_all([*nodes, policy("p", balance={"precise": True})]))
            await served(http, url, "precise")
            first = find_dataplane(process.pid)
            assert first is not None
            os.kill(first, signal.SIGKILL)
            answers = [await choose(http, url) for _ in range(20)]
            assert None not in answers
            await until(lambda: find_dataplane(process.pid) not in (None, first))
            await served(http, url, "precise")
            second = find_dataplane(process.pid)
            assert second is not None
        await until(lambda: not Path(f"/proc/{second}").exists())
