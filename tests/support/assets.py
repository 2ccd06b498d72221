"""etcd and kube-apiserver for the API tests: where they are, or how they are built.

KUBEBUILDER_ASSETS names a directory that holds both. Else they lie in a cache outside of the clone, by the content of
the modules that pin them (tests/kubernetes/tools), and Go builds them into it once. `python -m support.assets` builds
and prints the directory, and brings what `neighbours` knows.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TOOLS = Path(__file__).parents[1] / "kubernetes" / "tools"
PACKAGES = {"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"}
PATIENCE = 1500.0  # seconds that one build may take
NEWS = 20.0  # seconds between two lines of progress

Say = Callable[[str], None]


class NoAssetsError(Exception):
    """They are not there and cannot be built; one line says why."""


def find_assets() -> Path | None:
    """The directory with both programs, if there is one. Raises NoAssetsError where the user's own lacks one."""
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        if missing := _list_missing(Path(given)):
            raise NoAssetsError(f"KUBEBUILDER_ASSETS has no {' and no '.join(missing)}")
        return Path(given)
    cached = _locate_cache()
    if _list_missing(cached):
        return None
    os.utime(cached)
    return cached


def bring_assets(say: Say) -> Path:
    """Finds the programs or builds them, some minutes once. Raises NoAssetsError."""
    if found := find_assets():
        return found
    go = find_go()
    target = _locate_cache()
    target.mkdir(parents=True, exist_ok=True)
    with lock(target / "lock"):
        for program in _list_missing(target):
            _build(go, program, target, say)
    return target


def _locate_cache() -> Path:
    content = b"".join((TOOLS / program / name).read_bytes() for program in PACKAGES for name in ("go.mod", "go.sum"))
    versions = "-".join(_read_version(program) for program in sorted(PACKAGES))
    return find_cache() / f"{versions}-{hashlib.sha256(content).hexdigest()[:12]}"


def find_cache() -> Path:
    """Where everything lies that is built for tests; outside of the clone."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "weighbridge-ci" / "assets"


def _list_missing(directory: Path) -> list[str]:
    return [program for program in PACKAGES if not os.access(directory / program, os.X_OK)]


def _read_version(program: str) -> str:
    """`v1.34.4`: of the module that holds the program."""
    lines = (TOOLS / program / "go.mod").read_text().splitlines()
    words = [line.replace("require ", "").split() for line in lines]
    return next(w[1] for w in words if len(w) > 1 and PACKAGES[program].startswith(w[0]) and w[1].startswith("v"))


def find_go() -> str:
    """A Go that can build what is pinned. Raises NoAssetsError."""
    usual = "/usr/local/go/bin/go"
    go = shutil.which("go") or (usual if os.access(usual, os.X_OK) else None)
    if go is None:
        raise NoAssetsError(
            "there is no kube-apiserver: KUBEBUILDER_ASSETS is not set, and there is no Go to build it with"
        )
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    numbers = [int(part) for part in said.removeprefix("go").split(".")[:2] if part.isdigit()]
    if numbers < [1, 21]:
        # From 1.21 on Go fetches the newer one that a module asks for by itself.
        raise NoAssetsError(f"there is no kube-apiserver, and Go 1.21 or newer is needed to build it, not {said}")
    return go


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(go: str, program: str, target: Path, say: Say) -> None:
    began = time.monotonic()
    say(f"building {program} {_read_version(program)} (once; several minutes) ...")
    draft = target / f".{program}"
    command = [go, "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", _name_version(program)]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    with subprocess.Popen(
        [*command, "-o", str(draft), PACKAGES[program]],
        cwd=TOOLS / program,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        last = _follow(run, say)
    if run.returncode:
        raise NoAssetsError(f"{program} could not be built: {last}")
    draft.rename(target / program)
    say(f"built {program} in {time.monotonic() - began:.0f} s")


def _name_version(program: str) -> str:
    """Without it the server calls itself v0.0.0, and clients do not take it."""
    if program != "kube-apiserver":
        return "-s -w"
    version = _read_version(program)
    major, minor, *_ = version.removeprefix("v").split(".")
    named = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = [f"-X k8s.io/component-base/version.{name}={value}" for name, value in named.items()]
    return " ".join(["-s", "-w", *flags])


def _follow(run: subprocess.Popen[str], say: Say) -> str:
    """Tells now and then how far it is; answers the last line."""
    assert run.stderr is not None
    began = told = time.monotonic()
    last, count = "", 0
    for line in run.stderr:
        last, count = line.strip(), count + 1
        if time.monotonic() - told > NEWS:
            told = time.monotonic()
            say(f"  {told - began:.0f} s, {count} steps: {last}")
        if time.monotonic() - began > PATIENCE:
            run.kill()
    return last


def main() -> int:
    """Builds what is missing; 1 where that cannot be."""
    from support.neighbours import bring_neighbours

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for bring in (bring_assets, bring_neighbours):
        try:
            if found := bring(say):
                print(found)
        except NoAssetsError as error:
            say(f"some API tests cannot run here: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
