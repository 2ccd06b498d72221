"""The demonstration of a node named for each request."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.envoy import free_port

COMMAND = Path(sys.executable).parent / "weighbridge"
CHAT = json.dumps({"model": "qwen2.5-7b", "messages": [{"role": "user", "content": "hello"}]}).encode()
LIMIT = 60.0  # seconds


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Where the demonstration listens, and where it tells of itself."""
    entrance, admin = free_port(), free_port()
    doors = [f"--port={entrance}", f"--admin=127.0.0.1:{admin}"]
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen([COMMAND, "demo", "--precise", *doors], stdout=log, stderr=log)
    try:
        yield entrance, admin
    finally:
        demo.terminate()
        demo.wait()


def ask(port: int) -> str | None:
    """Who chose the node of one chat; None where there is no answer yet."""
    url, head = f"http://127.0.0.1:{port}/v1/chat/completions", {"content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, CHAT, head), timeout=10) as answer:
            return str(answer.headers["x-weighbridge-choice"])
    except OSError:
        return None


@pytest.mark.envoy
def test_a_node_is_named_for_each_request_and_explain_says_why(ports: tuple[int, int]) -> None:
    entrance, admin = ports
    end = time.monotonic() + LIMIT
    while (found := ask(entrance)) != "precise":
        assert time.monotonic() < end, found
        time.sleep(0.1)
    asked = [COMMAND, "explain", "--choices", "20", "--url", f"http://127.0.0.1:{admin}"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert "named default/" in told.stdout, told.stdout + told.stderr
