"""`weighbridge up` with a policy that is precise: the data plane beside its Envoy comes, dies, comes again and goes."""

from __future__ import annotations

import asyncio
import json
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
async def up(
    folder: Path, *flags: str, admin: int | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port, admin = free_port(), admin or free_port()
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
    """Who chose the node of one answer; "" where no policy asks for a choice, None where there was no answer yet."""
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
        told = free_port()
        async with up(tmp_path, "--dataplane-metrics", f"127.0.0.1:{told}") as (process, url):
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
            os.kill(second, signal.SIGSTOP)
            await served(http, url, "weights")
            await until(lambda: find_dataplane(process.pid) not in (None, second))
            await served(http, url, "precise")
            third = find_dataplane(process.pid)
            async with http.get(f"http://127.0.0.1:{told}/metrics") as answer:
                assert "weighbridge_dataplane_named_total" in await answer.text()
            async with http.get(f"http://127.0.0.1:{told}/choices") as answer:
                assert answer.status == 404, "only this machine may ask which requests there were"
        await until(lambda: not Path(f"/proc/{third}").exists())


async def explain(admin: int, *flags: str) -> tuple[int, str, str]:
    """`weighbridge explain` as a user calls it: exit code, output, and what went to standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, "explain", "--url", f"http://127.0.0.1:{admin}", *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT):
        out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_explain_tells_why_a_request_went_where_it_went(tmp_path: Path) -> None:
    specs = [NodeSpec(name=name, models=(("m", "m"),), zero=True) for name in "abc"]
    admin = free_port()
    async with Fleet(specs) as fleet, aiohttp.ClientSession() as http:
        nodes = [node(name, one.port) for name, one in fleet.nodes.items()]
        objects = tmp_path / "objects.yaml"
        objects.write_text(yaml.safe_dump_all(nodes))
        async with up(tmp_path, "--keep-choices", "50", admin=admin) as (_, url):
            await served(http, url)
            code, _, error = await explain(admin, "--choices", "1")
            assert (code, "no data plane runs here now" in error) == (1, True)
            objects.write_text(yaml.safe_dump_all([*nodes, policy("p", balance={"precise": True})]))
            await served(http, url, "precise")
            async with asyncio.timeout(LIMIT):
                while True:  # on a busy machine Envoy does not always wait for the answer
                    async with http.post(url, json={"model": "m", "messages": []}) as answer:
                        told = answer.headers
                    if told.get("x-weighbridge-choice") == "precise":
                        break
            code, text, error = await explain(admin, "--request", told["x-request-id"])
            assert (code, error) == (0, "")
            assert f"request {told['x-request-id']}" in text
            assert f"named default/{told['x-weighbridge-node']} at " in text
            assert [text.count(f" default/{name} 127.0.0.1:") for name in "abc"] == [1, 1, 1]
            code, text, error = await explain(admin, "--request", "never-seen", "--output", "json")
            (answers,) = json.loads(text)["answers"]
            assert (code, answers["most"], answers["choices"]) == (1, 50, [])
            assert "keeps the last 50 choices" in error
