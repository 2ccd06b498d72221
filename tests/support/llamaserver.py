"""llama.cpp's server, built once into a cache outside of the clone from the sources in PyPI's llama-cpp-python.

LLAMA_SERVER names one that is there already. `python -m support.llamaserver` builds and prints the program; one that
was interrupted goes on where it was. It takes a C++ compiler, cmake and, at first, a few hundred MB of disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.assets import Say

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"  # llama.cpp of October 2026
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
BUNDLED = "vendor/llama.cpp"
#: No GPU, no TLS, no page for people; hardly optimised, for the model is tiny and the compiler is what takes time.
OPTIONS = {
    "CMAKE_BUILD_TYPE": "None",
    "CMAKE_C_FLAGS": "-O2",
    "CMAKE_CXX_FLAGS": "-O1",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    "GGML_CCACHE": "OFF",
    "LLAMA_ALL_WARNINGS": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
}
NEWS = 15.0  # seconds between two lines of progress


class NoServerError(Exception):
    """It is not there and cannot be built; one line says why."""


def find_server() -> Path | None:
    """The program, if there is one. Raises NoServerError where the user's own is none."""
    if given := os.environ.get("LLAMA_SERVER"):
        if not os.access(given, os.X_OK):
            raise NoServerError(f"LLAMA_SERVER: {given} cannot be run")
        return Path(given)
    program = _locate_cache() / "llama-server"
    if not os.access(program, os.X_OK):
        return None
    os.utime(program.parent)
    return program


def bring_server(say: Say, jobs: int) -> Path:
    """Finds the program or builds it with so many compilers at once. Raises NoServerError."""
    if found := find_server():
        return found
    if missing := [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]:
        raise NoServerError(f"there is no {' and no '.join(missing)} (Debian: apt install cmake g++)")
    target = _locate_cache()
    target.mkdir(parents=True, exist_ok=True)
    with _lock(target / "lock"):
        return find_server() or _build(target, say, jobs)


def _locate_cache() -> Path:
    content = f"{VERSION}{SHA256}{sorted(OPTIONS.items())}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"llama-server-{VERSION}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    return home / "weighbridge-ci" / "assets" / name


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(target: Path, say: Say, jobs: int) -> Path:
    began = time.monotonic()
    say(f"building llama-server of {PACKAGE} {VERSION} with {jobs} compilers (once; 10 to 20 minutes of CPU) ...")
    source, build = target / "source", target / "build"
    if not source.exists():
        _unpack(_download(target, say), source)
    flags = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    maker = ["-G", "Ninja"] if shutil.which("ninja") else []
    _run(["cmake", "-S", str(source), "-B", str(build), *maker, *flags], say)
    _run(["cmake", "--build", str(build), "--target", "llama-server", "-j", str(jobs)], say)
    program = target / "llama-server"
    shutil.copy2(build / "bin" / "llama-server", target / ".llama-server")
    (target / ".llama-server").rename(program)
    for folder in (source, build):
        shutil.rmtree(folder)
    say(f"built llama-server in {time.monotonic() - began:.0f} s")
    return program


def _download(target: Path, say: Say) -> Path:
    """The package's sources, checked."""
    say(f"fetching the sources of {PACKAGE} {VERSION} (77 MB) ...")
    wanted = ["--no-deps", "--no-binary", ":all:", "--dest", str(target), f"{PACKAGE}=={VERSION}"]
    _run([sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *wanted], say)
    archive = next(target.glob("llama_cpp_python-*.tar.gz"))
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise NoServerError(f"{archive.name} is not what it was: its SHA-256 is {found}")
    return archive


def _unpack(archive: Path, source: Path) -> None:
    draft = source.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(draft, filter="data")
    (next(draft.iterdir()) / BUNDLED).rename(source)
    shutil.rmtree(draft)
    archive.unlink()


def _run(command: list[str], say: Say) -> None:
    """Runs one step, and tells now and then how far it is."""
    began = told = time.monotonic()
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout is not None
        try:
            for line in run.stdout:
                last = line.strip() or last
                if time.monotonic() - told > NEWS:
                    told = time.monotonic()
                    say(f"  {told - began:.0f} s: {last[:100]}")
        except BaseException:
            run.terminate()
            raise
    if run.returncode:
        raise NoServerError(f"{' '.join(command[:2])} failed: {last}")


def main() -> int:
    """Builds what is missing; 1 where that cannot be."""
    try:
        jobs = int(os.environ.get("JOBS", os.cpu_count() or 1))
        print(bring_server(lambda line: print(line, file=sys.stderr, flush=True), jobs))
    except NoServerError as error:
        print(f"the tests on a real inference server cannot run here: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; it goes on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
