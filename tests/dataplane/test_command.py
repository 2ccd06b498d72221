"""`weighbridge dataplane` alone: nodes are read while some hang, it answers what it may be asked, and ends well."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from support.dataplane import CONSOLE, Dataplane
from support.envoy import free_port
from support.fake_envoy import FakeEnvoy, ask
from weighbridge_dataplane.cli import main
from weighbridge_dataplane.facts import Choice
from weighbridge_dataplane.records import Records
from weighbridge_dataplane.server import Server


@asynccontextmanager
async def beside(nodes: int = 3, bad: dict[int, str] | None = None) -> AsyncIterator[tuple[Dataplane, FakeEnvoy]]:
    async with FakeEnvoy(nodes, bad or {}) as envoy, Dataplane() as dataplane:
        await dataplane.start(f"http://127.0.0.1:{envoy.port}")
        yield dataplane, envoy


async def test_nodes_that_hang_or_lie_about_their_size_hold_nobody_else() -> None:
    bad = {0: "hangs", 1: "huge", 2: "redirects", 3: "garbage"} | dict.fromkeys(range(20, 100), "hangs")
    async with beside(100, bad) as (dataplane, envoy):
        await dataplane.wait_named(16)
        before = list(envoy.asked)
        await asyncio.sleep(5)
        good = [envoy.asked[n] - before[n] for n in range(4, 20)]
        assert min(good) >= 3  # 20 on an idle machine; a busy one reads once a second
        told = await dataplane.metrics()
        assert told["weighbridge_dataplane_fresh_nodes"] == 16
        assert told['weighbridge_dataplane_samples_total{result="failed"}'] > 0
        assert told["weighbridge_dataplane_nodes"] == 100


async def test_a_head_gets_a_node_and_the_choice_is_told() -> None:
    async with beside() as (dataplane, envoy):
        await dataplane.wait_named(3)
        policy = json.dumps({"clusters": ["p"], "via": ["the way to p"]})
        async with asyncio.timeout(20):
            while not (answer := await ask(dataplane.socket, policy)) or not answer.dynamic_metadata.fields:
                pass
        node = answer.dynamic_metadata["weighbridge.choice"]["node"]
        assert node in [envoy.address(number) for number in range(3)]
        common = answer.request_headers.response
        assert [h.header.raw_value for h in common.header_mutation.set_headers] == [b"the way to p"]
        assert common.clear_route_cache
        choice = (await dataplane.choices("last=1"))[0]
        assert (choice["address"], len(choice["candidates"])) == (node, 3)


@pytest.mark.parametrize("policy", [None, "no policy", '{"clusters": ["unknown"]}'])
async def test_what_is_not_understood_is_an_empty_answer(policy: str | None) -> None:
    async with beside() as (dataplane, _):
        answer = await ask(dataplane.socket, policy)
        assert answer is not None
        assert answer.WhichOneof("response") == "request_headers"
        assert not answer.dynamic_metadata.fields
        told = await dataplane.metrics()
        reason = "unknown" if policy and policy.startswith("{") else "policy"
        assert told[f'weighbridge_dataplane_silent_total{{reason="{reason}"}}'] == 1


async def test_bytes_that_are_no_message_end_the_exchange_without_a_word() -> None:
    async with beside() as (dataplane, _), grpc.aio.insecure_channel(f"unix:{dataplane.socket}") as channel:
        call = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")()
        await call.write(b"\xff\xff")
        assert await call.read() is grpc.aio.EOF
        assert (await call.code(), await call.details()) == (grpc.StatusCode.OK, "")


async def test_health_is_told_to_envoy_and_to_people_and_mistakes_are_named() -> None:
    async with beside() as (dataplane, _):
        async with grpc.aio.insecure_channel(f"unix:{dataplane.socket}") as channel:
            assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
        assert await dataplane.get("/healthz") == (200, "ok\n")
        for query in ("last=0", "last=x", "last=1001", "last=99999999999999999999", "last="):
            status, text = await dataplane.get(f"/choices?{query}")
            assert (status, "give a number of 1 to 1000" in text) == (400, True)


async def test_what_others_may_read_tells_of_no_request() -> None:
    async with beside() as (dataplane, envoy):
        port = free_port()
        await dataplane.start(f"http://127.0.0.1:{envoy.port}", "--metrics", f"127.0.0.1:{port}")
        assert (await dataplane.get("/choices"))[0] == 200
        dataplane.url = f"http://127.0.0.1:{port}"
        assert "weighbridge_dataplane_nodes" in (await dataplane.get("/metrics"))[1]
        assert await dataplane.get("/healthz") == (200, "ok\n")
        status, text = await dataplane.get("/choices")
        assert status == 404
        assert "choices are told where the data plane's --listen is" in text


async def test_processes_of_several_containers_share_a_directory(tmp_path: Path) -> None:
    """Each is number 1 of its own: what another one has just bound there is not ours to take away."""
    other = tmp_path / f".{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(other))
        listening.listen()
        servers = [Server(lambda _: Choice(None, None), Records()) for _ in range(2)]
        for number, server in enumerate(servers):
            await server.start(str(tmp_path / f"dataplane-{number}"))
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(other))
        assert sorted(os.listdir(tmp_path)) == [other.name, "dataplane-0", "dataplane-1"]
        for server in servers:
            await server.stop(0.0)
        assert os.listdir(tmp_path) == [other.name]


async def test_a_successor_takes_the_path_and_its_predecessors_end_leaves_it() -> None:
    async with beside() as (dataplane, envoy):
        first = dataplane.process
        assert first is not None
        await dataplane.start(f"http://127.0.0.1:{envoy.port}")
        first.send_signal(signal.SIGTERM)
        assert await first.wait() == 0
        assert await ask(dataplane.socket, None) is not None
        second = dataplane.process
        assert second is not None
        second.send_signal(signal.SIGTERM)
        assert await second.wait() == 0
        assert list(Path(dataplane.socket).parent.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="sockets without a file are Linux's")
async def test_a_name_without_a_file_belongs_to_one() -> None:
    name = f"@weighbridge-test-{os.getpid()}-{time.monotonic_ns()}"
    async with Dataplane() as dataplane:
        dataplane.socket = name
        await dataplane.start("http://127.0.0.1:1")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CONSOLE, "dataplane", "--socket", name, "--listen", "127.0.0.1:0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(20):
            out, said = await process.communicate()
        assert b"another process has it" in said
        assert out == b"", "nothing is said to serve where nothing does"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--socket", "/missing/socket"], "is its directory there and yours?"),
        (["--socket", "/" + "x" * 120], "longer than 100 bytes"),
        (["--socket", "x", "--listen", "127.0.0.1:99999"], "no address like 127.0.0.1:9902"),
        (["--socket", "x", "--listen", "name:1"], "no address like 127.0.0.1:9902"),
        (["--socket", "x", "--admin-url", "https://x"], "no URL like http://127.0.0.1:9901"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(str(end.code))
    assert code == 2
    assert said in capfd.readouterr().err.splitlines()[-1]
