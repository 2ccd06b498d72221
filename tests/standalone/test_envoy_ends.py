"""How an Envoy of ours starts and ends, without a real one: what is found, what is said, what is tried again."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from weighbridge_operator import tether
from weighbridge_operator.envoy_process import (
    EnvoyNotFoundError,
    EnvoyProcess,
    EnvoySettings,
    describe_end,
    end_process,
    find_envoy,
)


async def test_what_has_no_parent_any_more_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", tether.__file__, "1", "/bin/sh", "-c", f"echo ran > {tmp_path}/it"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, error = await process.communicate()
    assert process.returncode == 1
    assert b"gone" in error
    assert not (tmp_path / "it").exists()


async def test_one_that_cannot_start_is_tried_again_ever_more_slowly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    binary = tmp_path / "envoy"
    binary.write_text("#!/bin/sh\necho '[critical][main] cannot do it'\nexit 3\n")
    binary.chmod(0o755)
    envoy = EnvoyProcess(EnvoySettings("127.0.0.1:9", "weighbridge", binary=str(binary)))
    running = asyncio.create_task(envoy.run())
    async with asyncio.timeout(20):
        while envoy.restarts < 2:  # noqa: ASYNC110  it counts, and tells no event
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert envoy.last_error == "ended with exit code 3, saying: main: cannot do it"
    ends = [record.getMessage() for record in caplog.records if "starting it again" in record.getMessage()]
    assert [end.rpartition("again in ")[2] for end in ends[:2]] == ["0.2 s", "0.4 s"]


async def test_one_that_does_not_end_is_ended() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await end_process(process, 0.1)
    assert process.returncode == -signal.SIGKILL


def test_the_end_is_told_with_the_last_words() -> None:
    assert describe_end(-11, ("a", "b")) == "was killed by SIGSEGV, saying: a; b"
    assert describe_end(1, ()) == "ended with exit code 1"


def test_the_binary_is_the_given_one_then_the_wheels_then_that_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "envoy"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy(str(own)) == str(own)
    assert find_envoy(None).endswith("_bin/envoy")
    monkeypatch.setattr("weighbridge_operator.envoy_process.distribution", lambda _: Empty())
    assert find_envoy(None) == str(own)
    own.unlink()
    with pytest.raises(EnvoyNotFoundError, match="pip install"):
        find_envoy(None)
    with pytest.raises(EnvoyNotFoundError, match="WEIGHBRIDGE_ENVOY"):
        find_envoy(str(own))


class Empty:
    """A distribution without files."""

    files: Any = None
