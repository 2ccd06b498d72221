"""What an Envoy is started with: accepted by Envoy, understood by the operator, and closed where it should be."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import aiohttp
import pytest
import yaml
from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.json_format import ParseDict

from support.envoy import RealEnvoy, find_envoy, free_port
from support.gateway import make_assignment, make_cluster, make_listener, make_routes
from weighbridge_operator.bootstrap_command import main
from weighbridge_operator.latest import Latest
from weighbridge_operator.xds.bootstrap import MEMORY, BootstrapSettings, bootstrap, read_address
from weighbridge_operator.xds.names import print_address
from weighbridge_operator.xds.overload import read_size
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.session import read_node
from weighbridge_operator.xds.snapshot import build
from weighbridge_operator.xds.warmth import ask_over

Start = Callable[..., Awaitable[RealEnvoy]]


def make(operator: str = "127.0.0.1:18000", stats: str | None = None) -> BootstrapSettings:
    return BootstrapSettings(operator, "weighbridge", "a", 9901, stats)


async def wait_listening(port: int) -> None:
    """Until somebody does."""
    async with asyncio.timeout(20):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.01)


@pytest.mark.envoy
@pytest.mark.parametrize(
    "settings",
    [
        make(),
        replace(make(), memory=2**31),
        make("operator.weighbridge.svc:18000"),
        make("[::1]:18000"),
        make(stats="10.0.0.7:9902"),
    ],
    ids=["ipv4", "memory", "name", "ipv6", "stats"],
)
def test_envoy_accepts_it_without_a_warning(settings: BootstrapSettings) -> None:
    command = [find_envoy(), "--mode", "validate", "--disable-hot-restart", "--log-level", "warning"]
    done = subprocess.run(
        [*command, "--config-yaml", json.dumps(bootstrap(settings))],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert "[warning]" not in done.stderr


def test_the_operator_reads_who_it_is_and_where_its_statistics_are() -> None:
    near = (make(), "http://127.0.0.1:9901", "ipv4:127.0.0.1:4711")
    far = (make(stats="[fd00::7]:9902"), "http://[fd00::7]:9902", "ipv6:%5Bfd00::7%5D:4711")
    for settings, told, peer in (near, far):
        node = read_node(ParseDict(bootstrap(settings)["node"], Node()), peer)
        assert (node.id, node.cluster, node.stats) == ("a", "weighbridge", told)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "a.example:1", "[fe80::1]:65535"])
def test_an_address_is_printed_as_it_was_read(text: str) -> None:
    assert print_address(*read_address(text)) == text


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:x", "a:²", "::1:80", "[a]:1", "http://a:1", "a b:1", "u@a:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        read_address(text)


@pytest.mark.envoy
async def test_an_envoy_is_not_ready_before_it_has_its_configuration(start_envoy: Start) -> None:
    async with aiohttp.ClientSession() as http:
        snapshots: Latest = Latest()
        server = AdsServer("weighbridge", snapshots, warmth=ask_over(http))
        port, admin = await server.start("127.0.0.1:0"), free_port()
        try:
            envoy = await start_envoy(
                bootstrap(BootstrapSettings(f"localhost:{port}", "weighbridge", "a", admin)), admin_port=admin
            )
            async with asyncio.timeout(20):
                states, version = await server.states.wait_newer()
                while not states.envoys:
                    states, version = await server.states.wait_newer(version)
            async with http.get(f"{envoy.admin_url}/ready") as answer:
                assert (answer.status, (await answer.text()).strip()) == (503, "PRE_INITIALIZING")
            snapshots.set(
                build(
                    clusters=[make_cluster("c")],
                    endpoints=[make_assignment("c", [9])],
                    listeners=[make_listener("front", "r")],
                    routes=[make_routes("r", "c")],
                )
            )
            await envoy.listener_port("front")
            async with asyncio.timeout(20):  # the listener is there a moment before
                while (await envoy.admin("/ready")).strip() != "LIVE":  # noqa: ASYNC110  it tells nobody
                    await asyncio.sleep(0.02)
        finally:
            await server.stop(0.1)


@pytest.mark.envoy
async def test_the_statistics_address_shows_statistics_and_nothing_else(start_envoy: Start) -> None:
    admin, stats = free_port(), free_port()
    config = bootstrap(BootstrapSettings("127.0.0.1:9", "weighbridge", "a", admin, f"127.0.0.1:{stats}"))
    # Nobody gives this Envoy its listeners; the static ones start only then.
    del config["dynamic_resources"]
    await start_envoy(config, admin_port=admin)
    await wait_listening(stats)
    base = f"http://127.0.0.1:{stats}"
    async with aiohttp.ClientSession() as http:
        for path in ("/stats?filter=^server.live$", "/stats/prometheus", "/ready"):
            async with http.get(base + path) as answer:
                assert answer.status == 200, path
        for part in ("dynamic_active_clusters", "dynamic_route_configs"):
            async with http.get(f"{base}/config_dump?resource={part}") as answer:
                assert answer.status == 200, part
                assert "bootstrap" not in await answer.text()
        # Where Envoy looks at the first of two, so must we.
        twice = f"{base}/config_dump?resource=dynamic_active_clusters&resource=bootstrap"
        async with http.get(twice) as answer:
            assert "node" not in await answer.text()
        for query in ("", "?resource=bootstrap", "?resource=dynamic_listeners", "?resource=bootstrap&resource=x"):
            async with http.get(f"{base}/config_dump{query}") as answer:
                assert answer.status == 404, query
        for path in ("/", "/clusters", "/stats/recentlookups", "/quitquitquit", "/statsx", "/ready/../clusters"):
            async with http.get(base + path) as answer:
                assert answer.status == 404, path
        for path in ("/quitquitquit", "/stats", "/logging?level=trace"):
            async with http.post(base + path) as answer:
                assert answer.status == 404, path


@pytest.mark.envoy
async def test_statistics_are_read_when_callers_have_taken_every_connection(start_envoy: Start) -> None:
    admin, stats, front = free_port(), free_port(), free_port()
    told = f"127.0.0.1:{stats}"
    config = bootstrap(BootstrapSettings("127.0.0.1:9", "weighbridge", "a", admin, told, connections=1))
    del config["dynamic_resources"]
    # The same listener once more, without the exemption: it stands for the entrance.
    shown = config["static_resources"]["listeners"][0]
    entrance = json.loads(json.dumps(shown)) | {"name": "front", "ignore_global_conn_limit": False}
    entrance["address"]["socket_address"]["port_value"] = front
    config["static_resources"]["listeners"].append(entrance)
    await start_envoy(config, admin_port=admin)
    await wait_listening(stats)
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        # Connections of an Envoy's first moments are not counted, so the second one may still be taken.
        answers = [await ask_once(front) for _ in range(4)]
        assert [answer[1] for answer in answers[-2:]] == [b"", b""]
        async with http.get(f"http://{told}/ready") as answer:
            assert answer.status == 200
        for writer, _ in answers:
            writer.close()


async def ask_once(port: int) -> tuple[asyncio.StreamWriter, bytes]:
    """A connection that stays open, and the first line that it was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = b""
    with suppress(ConnectionError):
        writer.write(b"GET /ready HTTP/1.1\r\nhost: gateway\r\n\r\n")
        line = await reader.readline()
    return writer, line


def test_the_command_prints_json_and_yaml_of_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--operator", "op:18000", "--id", "edge", "--stats", "10.0.0.7:9902"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--output", "yaml"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text) == printed
    assert "&id" not in text
    settings = BootstrapSettings("op:18000", "weighbridge", "edge", 9901, "10.0.0.7:9902", memory=read_size(MEMORY))
    assert printed == bootstrap(settings)


@pytest.mark.parametrize(
    ("text", "size"), [("1Gi", 2**30), ("1.5Gi", 3 * 2**29), ("512M", 512 * 10**6), ("1000000000", 10**9), ("4k", 4000)]
)
def test_a_size_is_read_as_kubernetes_reads_it(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--operator"),
        (["--operator", "op"], "'op' is not an address"),
        (["--operator", "op:1", "--admin-port", "0"], "admin port"),
        (["--operator", "op:1", "--admin-port", "x"], "--admin-port"),
        (["--operator", "op:1", "--stats", "0.0.0.0:1"], "reaches this Envoy"),
        (["--operator", "op:1", "--stats", "name:1"], "IP address"),
        (["--operator", "op:1", "--connections", "0"], "connections"),
        (["--operator", "op:1", "--memory", "511Mi"], "the memory must be at least 512Mi"),
        (["--operator", "op:1", "--memory", "much"], "'much' is not a size"),
        (["--operator", "op:1", "--output", "xml"], "--output"),
        (["--operator", "op:1", "--tls-directory", "/tls"], "--write"),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_code_2(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as left:
        code = left.code  # type: ignore[assignment]
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert named in error


def test_printing_it_needs_no_grpc() -> None:
    program = (
        "import sys; sys.modules['grpc'] = None; sys.modules['envoy'] = None\n"
        "from weighbridge_operator.bootstrap_command import main\n"
        "main(['--operator', 'op:1'])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["node"]["cluster"] == "weighbridge"
