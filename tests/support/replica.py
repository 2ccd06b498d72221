"""`weighbridge operator --kubernetes` as a process of its own, as a pod would run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from support.apiserver import ApiServer
from support.envoy import free_port

LIMIT = 30.0  # seconds; a busy machine


class Replica:
    """`with Replica(server, namespace, name, folder) as replica:` runs until the block ends, or it is killed.

    Entered again after `kill`, it starts on the same ports.
    """

    command: tuple[str, ...] = (str(Path(sys.executable).parent / "weighbridge"), "operator")

    def __init__(
        self, server: ApiServer, namespace: str, name: str, folder: Path, *flags: str, kubeconfig: Path | None = None
    ) -> None:
        self.xds, self.admin = free_port(), free_port()
        self.entrance = free_port()
        self._log = folder / f"{name}.log"
        self._flags = (
            f"--namespace={namespace}",
            f"--xds=127.0.0.1:{self.xds}",
            f"--admin=127.0.0.1:{self.admin}",
            f"--port={self.entrance}",
            "--output=json",
            *flags,
        )
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig or server.kubeconfig), "POD_NAME": name}

    def __enter__(self) -> Replica:
        command = [*self.command, "--kubernetes", *self._flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        finally:
            self.kill()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Without a goodbye."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def read_status(self) -> dict[str, Any]:
        """The report; {} while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/status", timeout=3) as answer:
                read: dict[str, Any] = json.loads(answer.read())
        except OSError:
            return {}
        return read

    def wait_published(self) -> None:
        """Until it has a configuration."""
        end = time.monotonic() + LIMIT
        while not self.read_status().get("version"):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)


def find_own_address() -> str:
    """An address of this machine that is not loopback, which in a cluster is nobody's. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("not run: this machine has no address but loopback, which in a cluster is nobody's")
        return str(probe.getsockname()[0])
