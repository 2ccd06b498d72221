"""The command: what it announces, what it refuses, and that it never outlives its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from weighbridge_simulator.cli import main
from weighbridge_simulator.flags import FlagError, build_spec, read_pairs

COMMAND = [sys.executable, "-m", "weighbridge_simulator.cli"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended when the test is over, if they are not by then."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def run(started: list[subprocess.Popen[str]], *flags: str, **options: object) -> tuple[subprocess.Popen[str], dict]:
    """Start the command, and what it announced."""
    process = subprocess.Popen([*COMMAND, *flags, "--print-json"], stdout=subprocess.PIPE, text=True, **options)
    started.append(process)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        body: bytes = answer.read()
        return body


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_fleet_announces_where_it_really_listens(started: list[subprocess.Popen[str]]) -> None:
    nodes = ["--node", "name=a,size=4,model=org/big:big,model=other", "--node", "name=b,engine=sglang,slow=3"]
    _, announced = run(started, *nodes, "--model", "m", "--gpu-port", "0", "--machine-port", "0")
    a, b = announced["nodes"]
    assert (a["name"], a["models"], a["kv_tokens"]) == ("a", ["big", "other"], 160_000)
    assert (b["models"], b["engine"]) == (["m"], "sglang")
    assert json.loads(get(b["port"], "/sim/state"))["control"]["slow"] == 3.0
    assert json.loads(get(a["port"], "/sim/state"))["peers"] == ["a", "b"]
    assert b"DCGM_FI_DEV_GPU_UTIL" in get(a["gpu_port"], "/metrics")
    assert b"node_cpu_seconds_total" in get(b["machine_port"], "/metrics")
    assert b"sglang:num_running_reqs" in get(b["port"], "/metrics")
    assert [model["id"] for model in json.loads(get(a["port"], "/v1/models"))["data"]] == ["big", "other"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(started: list[subprocess.Popen[str]], number: int) -> None:
    process, announced = run(started)
    process.send_signal(number)
    assert process.wait(5) == 0
    assert not listening(announced["nodes"][0]["port"])


def test_it_ends_when_standard_input_does(started: list[subprocess.Popen[str]]) -> None:
    process, _ = run(started, "--end-with-stdin", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(5) == 0


def test_it_ends_soon_after_its_parent_was_killed(started: list[subprocess.Popen[str]]) -> None:
    script = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([*{COMMAND!r}, '--print-json', '--parent-pid', str(os.getpid())])\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    started.append(parent)
    assert parent.stdout is not None
    port = json.loads(parent.stdout.readline())["nodes"][0]["port"]
    assert listening(port)
    os.kill(parent.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while listening(port):
        assert time.monotonic() < end, "it outlived its parent"
        time.sleep(0.02)


def test_nodes_and_traffic_to_them_start_together(started: list[subprocess.Popen[str]]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--node", f"name=a,port={port},model=m,zero=true", "--send", f"http://127.0.0.1:{port}", "--rate", "50"]
    process, announced = run(started, *flags)
    assert announced["nodes"][0]["port"] == port
    assert process.stdout is not None
    end = time.monotonic() + 10
    while json.loads(process.stdout.readline())["traffic"].get("ok", 0) < 10:
        assert time.monotonic() < end, "nothing was answered"
    assert json.loads(get(port, "/sim/state"))["requests"]["m"] >= 10
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


def test_a_taken_port_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--node", "name=free", "--node", f"name=late,port={port}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"node late: cannot listen on 127.0.0.1:{port}" in error
    assert "in use" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--node", "name=a,speed=4"], "'speed=4' is not KEY=VALUE"),
        (["--node", "name=a,size=big"], "size: takes a number, not 'big'"),
        (["--node", "name=a,size=0"], "node a: size: takes 0.001 to 1000"),
        (["--node", "name=a", "--node", "name=a"], "two nodes are named a"),
        (["--engine", "llama"], "engine: takes vllm, sglang, tgi, triton, llamacpp, custom, plain"),
        (["--port", "70000"], "port: takes a port"),
        (["--base", "v1"], "base must start with /"),
        (["--tls-cert", "x.pem"], "both a certificate and a key"),
        (["--lie", "always"], "lie: takes off, idle"),
        (["--rate", "5"], "--rate is of the requests that --send sends: add --send URL, or leave it out"),
        (
            ["--send", "http://127.0.0.1:1", "--port", "8001"],
            "starts none: write it as --node port=..., or leave it out",
        ),
        (["--send", "http://127.0.0.1:1", "--rate", "0"], "--rate takes a number above 0, not 0"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_node_s_own_keys_come_before_the_flags() -> None:
    spec = build_spec([*read_pairs("size=2,fail=die"), *read_pairs("size=4")])
    assert spec.control.size == 4.0
    assert spec.control.fail is not None
    assert spec.control.fail.kind == "die"


def test_an_unknown_key_lists_the_known() -> None:
    with pytest.raises(FlagError, match="gpu_memory"):
        read_pairs("nothing")
