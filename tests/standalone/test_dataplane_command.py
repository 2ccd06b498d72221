"""`weighbridge dataplane`, asked by the real Envoy."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.envoy import RealEnvoy
from weighbridge_dataplane.cli import main

CONSOLE = "import sys; from weighbridge_api.console import main; sys.exit(main())"
TYPES = "type.googleapis.com/envoy.extensions"


def make_bootstrap(path: Path) -> dict[str, Any]:
    """A listener whose requests pass the processor, headers both ways, and are then answered by the listener itself."""
    processor = {
        "@type": f"{TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "processor"}, "timeout": "5s"},
        "message_timeout": "5s",
        "failure_mode_allow": False,
        "processing_mode": {"request_header_mode": "SEND", "response_header_mode": "SEND"},
    }
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "passed"}}}]
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "processor", "typed_config": processor},
            {"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
    cluster = {
        "name": "processor",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {options: http2},
        "load_assignment": {"cluster_name": "processor", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {
        "name": "front",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@pytest.mark.envoy
async def test_requests_pass_it_and_a_signal_ends_it(
    tmp_path: Path, start_envoy: Callable[..., Awaitable[RealEnvoy]]
) -> None:
    path = tmp_path / "processor"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CONSOLE, "dataplane", "--socket", str(path)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert (await process.stdout.readline()).startswith(b"listening")
            envoy = await start_envoy(make_bootstrap(path))
            url = f"http://127.0.0.1:{await envoy.listener_port()}/"
            async with aiohttp.ClientSession() as http:
                for _ in range(20):
                    async with http.post(url, data=b"body") as answer:
                        assert (answer.status, await answer.text()) == (200, "passed")
            assert await envoy.stat("http.front.ext_proc.streams_started") == 20
            assert await envoy.stat("http.front.ext_proc.stream_msgs_received") == 40
            assert await envoy.stat("http.front.ext_proc.streams_failed") == 0
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_a_socket_that_cannot_be_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--socket", str(tmp_path / "missing" / "socket")]) == 2
    assert "weighbridge dataplane: cannot listen on" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str) -> None:
    """A path that was meant for something else: nobody's file is put aside."""
    kept, path = tmp_path / "kept", tmp_path / "nodes.yaml"
    kept.write_text("precious")
    match what:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(kept)
    assert main(["--socket", str(path)]) == 2
    assert f"cannot listen on {path}: it is there and no socket" in capfd.readouterr().err
    assert path.is_dir() if what == "directory" else path.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == [kept, path]
