"""The chart's neighbours in a cluster: cert-manager, the CRDs of it, and those of the Prometheus operator.

They come from Go's module proxy, pinned in tests/kubernetes/tools, into the same cache as the API server:
`make assets` brings them. What is not there says so in one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from support.assets import TOOLS, NoAssetsError, Say, find_cache, find_go, lock
from weighbridge_operator import tether

#: Where in the module each has its CRDs.
CRDS = {
    "cert-manager": ("github.com/cert-manager/cert-manager", "deploy/crds"),
    "prometheus-operator": ("github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd"),
}
PROGRAM = "cert-manager"


def find_crds(name: str) -> list[Path]:
    """The files of one neighbour's CRDs. Raises NoAssetsError."""
    found = sorted((_locate(name) / "crds").glob("*.yaml"))
    if not found:
        raise NoAssetsError(f"there are no CRDs of {name}: `make assets` brings them")
    return found


def find_cert_manager() -> Path:
    """The program. Raises NoAssetsError."""
    program = _locate(PROGRAM) / PROGRAM
    if not os.access(program, os.X_OK):
        raise NoAssetsError("there is no cert-manager: `make assets` builds it")
    os.utime(program.parent)
    return program


def bring_neighbours(say: Say) -> None:
    """Fetches and builds what is not there. Raises NoAssetsError."""
    go = find_go()
    for name in CRDS:
        target = _locate(name)
        target.mkdir(parents=True, exist_ok=True)
        with lock(target / "lock"):
            if not (target / "crds").is_dir():
                _bring_crds(go, name, target)
            if name == PROGRAM and not os.access(target / PROGRAM, os.X_OK):
                say(f"building {PROGRAM} (once; several minutes) ...")
                _run(go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(target / ".draft"), ".")
                (target / ".draft").rename(target / PROGRAM)


def _bring_crds(go: str, name: str, target: Path) -> None:
    module, inside = CRDS[name]
    said = json.loads(_run(go, "mod", "download", "-json", module, where=name))
    draft = target / ".crds"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for path in (Path(said["Dir"]) / inside).glob("*.yaml"):
        (draft / path.name).write_bytes(path.read_bytes())
    draft.rename(target / "crds")


def _run(go: str, *arguments: str, where: str = PROGRAM) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(
        [go, *arguments], cwd=TOOLS / where, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoAssetsError(f"go {arguments[0]} of {where} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _locate(name: str) -> Path:
    content = b"".join(path.read_bytes() for path in sorted((TOOLS / name).iterdir()))
    return find_cache() / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"


class CertManager:
    """`with CertManager(kubeconfig, log):` lets it work in the cluster until the block ends. Raises NoAssetsError."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._program, self._kubeconfig, self._log = find_cert_manager(), kubeconfig, log

    def __enter__(self) -> CertManager:
        # The kernel ends it with us, however we end.
        command = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(self._program)]
        with self._log.open("ab") as log:
            environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig)}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
