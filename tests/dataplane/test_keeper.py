"""What keeps the data plane alive in a container: it comes anew when it ends or stands still, and ends when told to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from support.envoy import free_port
from support.scene import wait_for

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="not run: children are found in /proc, which is Linux's"
)
#: With less patience than in earnest.
KEEPER = "import sys; from weighbridge_dataplane import keeper; keeper.STILL = 2.5; keeper.Keeper(sys.argv[1:]).run()"


class Kept:
    """A keeper and what it keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.port = folder, folder / "socket", free_port()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KEEPER, "--socket", str(self.socket), "--listen", f"127.0.0.1:{self.port}"),
            stderr=asyncio.subprocess.PIPE,
        )

    @property
    def child(self) -> int:
        assert self.process is not None
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    async def is_well(self) -> bool:
        with suppress(aiohttp.ClientError, TimeoutError):
            url, limit = f"http://127.0.0.1:{self.port}/healthz", aiohttp.ClientTimeout(total=1)
            async with aiohttp.ClientSession(timeout=limit) as http, http.get(url) as answer:
                return answer.status == 200
        return False


@asynccontextmanager
async def keeping(folder: Path) -> AsyncIterator[Kept]:
    kept = Kept(folder)
    await kept.start()
    assert kept.process is not None
    try:
        await wait_for(kept.is_well)
        yield kept
    finally:
        if kept.process.returncode is None:
            kept.process.kill()
            await kept.process.wait()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_ends_or_stands_still_comes_anew(blow: signal.Signals, tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        first = kept.child
        os.kill(first, blow)

        async def is_another() -> bool:
            with suppress(IndexError):
                return kept.child != first and await kept.is_well()
            return False

        await wait_for(is_another)
        assert kept.process is not None
        assert kept.process.returncode is None
        assert kept.process.stderr is not None
        said = await kept.process.stderr.readline()
        assert (b"ended with -9" if blow == signal.SIGKILL else b"stood still") in said


async def test_told_to_end_it_lets_the_data_plane_end_well(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        assert kept.process is not None
        kept.process.terminate()
        assert await asyncio.wait_for(kept.process.wait(), 20) == 0
        assert os.listdir(tmp_path) == []  # the socket, which one that is killed leaves behind


async def test_with_the_keeper_goes_what_it_kept(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        child = kept.child
        assert kept.process is not None
        kept.process.kill()

        async def is_gone() -> bool:
            with suppress(ProcessLookupError):
                os.kill(child, 0)
                return False
            return True

        await wait_for(is_gone)


async def test_what_cannot_start_is_said_and_tried_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.socket = tmp_path / "nowhere" / "socket"
    await kept.start()
    assert kept.process is not None
    assert kept.process.stderr is not None
    said = [await asyncio.wait_for(kept.process.stderr.readline(), 30) for _ in range(4)]
    assert b"is its directory there" in said[0]
    assert b"ended with 2; the weights decide meanwhile; starting it again in 0.2 s" in said[1]
    assert b"starting it again in 0.4 s" in said[3]
    kept.process.terminate()
    assert await asyncio.wait_for(kept.process.wait(), 20) == 0
