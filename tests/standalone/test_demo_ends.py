"""The demonstration leaves nothing behind, whoever of it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.envoy import free_port
from weighbridge_api.console import main
from weighbridge_operator.demo_folder import PREFIX, open_folder, remove_stale

MARK = "WEIGHBRIDGE_DEMO_MARK"
ROOT = Path(__file__).parents[2]


def test_a_folder_is_gone_with_its_owner_and_left_alone_while_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_folder() as first:
        (first / "nodes.yaml").write_text("a")
        with open_folder() as second:
            assert (first / "nodes.yaml").exists()
        assert not second.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_owner_left_is_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, elsewhere = tmp_path / "tmp", tmp_path / "elsewhere"
    for folder in (place, elsewhere, place / f"{PREFIX}dead", place / f"{PREFIX}deep" / "more", place / "weighbridge"):
        folder.mkdir(parents=True)
    kept = elsewhere / "kept"
    for file in (kept, place / f"{PREFIX}file", place / "weighbridge" / "a", place / f"{PREFIX}deep" / "more" / "a"):
        file.write_text("x")
    (place / f"{PREFIX}dead" / "nodes.yaml").write_text("x")
    (place / f"{PREFIX}dead" / "link").symlink_to(kept)
    (place / f"{PREFIX}dead" / "links").symlink_to(elsewhere)
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    with monkeypatch.context() as another:
        another.setattr("os.geteuid", lambda: 4711)
        remove_stale(place)
        assert (place / f"{PREFIX}dead" / "nodes.yaml").exists()
    remove_stale(place)
    assert sorted(each.name.removeprefix(PREFIX) for each in place.iterdir()) == ["deep", "file", "link", "weighbridge"]
    assert kept.exists()
    assert (place / f"{PREFIX}deep" / "more" / "a").exists()
    assert (place / "weighbridge" / "a").exists()
    remove_stale(tmp_path / "nowhere")


def find_left(mark: str) -> list[str]:
    """The processes that carry the mark."""
    left = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if f"{MARK}={mark}\0".encode() in (entry / "environ").read_bytes() + b"\0":
                left.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
    return left


def wait(condition: Any, limit: float = 20.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Demo(NamedTuple):
    """A shell in make's place, the demonstration's own process, where its folder is, and what its processes carry."""

    shell: subprocess.Popen[bytes]
    gateway: int
    folder: Path
    mark: str


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    command = Path(sys.executable).parent / "weighbridge"
    ports = f"--port {free_port()} --admin 127.0.0.1:{(admin := free_port())}"
    folder = tmp_path / "tmp"
    folder.mkdir()
    mark = tmp_path.name + str(os.getpid())
    with (tmp_path / "log").open("wb") as log:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", f"{command} demo {ports} --parent-pid $$ & echo $! > {tmp_path}/pid; wait"],
            env=os.environ | {MARK: mark, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait(lambda: is_ready(admin))
        yield Demo(shell, int((tmp_path / "pid").read_text()), folder, mark)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def is_ready(admin: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.envoy
def test_a_demo_whose_make_was_killed_ends_and_cleans_up(demo: Demo) -> None:
    assert len(find_left(demo.mark)) >= 4  # the shell, the gateway, Envoy, the nodes
    demo.shell.kill()
    demo.shell.wait()
    wait(lambda: not find_left(demo.mark), 10)
    assert list(demo.folder.iterdir()) == []


@pytest.mark.envoy
def test_of_a_demo_that_was_killed_nothing_runs_on_and_the_next_removes_the_rest(demo: Demo) -> None:
    remove_stale(demo.folder)
    (left,) = demo.folder.iterdir()
    assert (left / "nodes.yaml").exists()
    os.kill(demo.gateway, signal.SIGKILL)
    wait(lambda: not find_left(demo.mark), 10)
    remove_stale(demo.folder)
    assert list(demo.folder.iterdir()) == []


def test_make_tells_the_demo_who_started_it(capsys: pytest.CaptureFixture[str]) -> None:
    told = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--parent-pid $PPID" in told
    assert main(["demo", "--port=0", f"--admin=127.0.0.1:{free_port()}", "--parent-pid=1"]) == 2
    assert "--parent-pid: 1 is not the process that started this one" in capsys.readouterr().err
