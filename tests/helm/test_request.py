"""The request of `helm test`, sent to a gateway of a few lines: which key and model it takes, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.envoy import free_port

SCRIPT = Path(__file__).parents[2] / "helm/weighbridge/files/request.py"
GOOD = "Bearer sk-good"


class Gateway(ThreadingHTTPServer):
    """Serves `models` to whoever has the key: each is answered with the status of its name."""

    def __init__(self, models: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = models


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer(self.server.models[body["model"]], {"error": {"code": "its_own"}})

    def _answer(self, status: int, body: object) -> None:
        status = status if self.headers["authorization"] == GOOD else 401
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "a-bad").write_text("with blank")
    (tmp_path / "b-lost").write_text("sk-lost")
    (tmp_path / "c-good").write_text("sk-good\n")
    return tmp_path


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    gateway = Gateway(request.param)
    serving = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield f"http://127.0.0.1:{gateway.server_address[1]}/v1"
    gateway.shutdown()
    serving.join()
    gateway.server_close()


@pytest.mark.parametrize(
    ("served", "code", "told"),
    [
        ({"rerank": 404, "chat": 200, "other": 500}, 0, "chat was answered by a node: 200"),
        ({"rerank": 404}, 1, "no model takes chat: rerank"),
        ({"chat": 503}, 1, "kubectl get modelnodes"),
        ({}, 1, "apply a ModelNode"),
    ],
    indirect=["served"],
)
def test_the_first_good_key_and_the_first_model_that_takes_chat(served: str, code: int, told: str, keys: Path) -> None:
    ended = subprocess.run([sys.executable, SCRIPT, served, keys], capture_output=True, text=True, check=False)
    assert (ended.returncode, told in ended.stdout + ended.stderr) == (code, True), ended
    assert "the key of b-lost lets nobody in" in ended.stdout
    assert "sk-" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("served", [{"chat": 200}], indirect=True)
def test_without_a_good_key_it_says_so(served: str, tmp_path: Path) -> None:
    (tmp_path / "lost").write_text("sk-lost")
    ended = subprocess.run([sys.executable, SCRIPT, served, tmp_path], capture_output=True, text=True, check=False)
    assert (ended.returncode, "no key of the Secret is good" in ended.stderr) == (1, True)


def test_an_entrance_that_is_shut_is_told_with_where_to_look(tmp_path: Path) -> None:
    shut = f"http://127.0.0.1:{free_port()}/v1"
    ended = subprocess.run([sys.executable, SCRIPT, shut, tmp_path], capture_output=True, text=True, check=False)
    assert (ended.returncode, "`kubectl get pods`" in ended.stderr) == (1, True)
