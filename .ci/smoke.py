"""Smoke of `make demo`: real requests by the official client, while a node is killed; then Ctrl-C, and nothing is left.

Run from the repository's root: `python .ci/smoke.py VENV`. Exits 1 with one line where anything fails. The client does
not retry, so that every failure is seen. Streams that the killed node had begun are not counted: no gateway can save
them without holding them back (docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

from openai import AsyncOpenAI, NotFoundError

MODEL = "qwen2.5-7b"
MARK = "WEIGHBRIDGE_SMOKE"
FIRST_ANSWER, END = 60.0, 10.0  # seconds
ASKERS = 8
Ask = Callable[[AsyncOpenAI], Awaitable[None]]


class SmokeError(Exception):
    """What went wrong, in one line."""


async def chat(ai: AsyncOpenAI) -> None:
    answer = await ai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    require(bool(answer.choices[0].message.content), "a chat answer is empty")


async def stream(ai: AsyncOpenAI) -> None:
    chunks = await ai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}], stream=True)
    ends = [choice.finish_reason async for chunk in chunks for choice in chunk.choices]
    require(len(ends) > 1 and ends[-1] is not None, f"a stream ended after {len(ends)} chunks without a finish_reason")


async def models(ai: AsyncOpenAI) -> None:
    listed = [model.id async for model in ai.models.list()]
    require(listed == [MODEL], f"the models are {listed}")


async def unknown(ai: AsyncOpenAI) -> None:
    try:
        await ai.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "hello"}])
    except NotFoundError:
        return
    raise SmokeError("a model that nobody serves was answered")


def require(holds: bool, message: str) -> None:
    if not holds:
        raise SmokeError(message)


async def ask_for(seconds: float, ai: AsyncOpenAI, *asks: Ask) -> int:
    """Asks from several tasks for some seconds; answers how often. Any failure ends it."""
    end, asked = time.monotonic() + seconds, 0

    async def keep_asking(first: int) -> None:
        nonlocal asked
        number = first
        while time.monotonic() < end:
            await asks[number % len(asks)](ai)
            number, asked = number + 1, asked + 1

    async with asyncio.TaskGroup() as tasks:
        for first in range(ASKERS):
            tasks.create_task(keep_asking(first))
    return asked


async def exercise(ai: AsyncOpenAI, controls: tuple[str, str]) -> int:
    """Before, while and after node large is dead."""
    own, sibling = controls
    asked = await ask_for(4, ai, chat, stream, models, unknown)
    during = asyncio.create_task(ask_for(8, ai, chat, models))
    await asyncio.sleep(2)
    post(own, '{"down": true}')
    asked += await during
    asked += await ask_for(4, ai, chat, stream)
    post(sibling, '{"node": "large", "clear": true}')
    return asked + await ask_for(4, ai, chat, stream, models)


def post(url: str, body: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, data=body.encode(), method="POST"), timeout=5).read()


async def wait_answer(ai: AsyncOpenAI, demo: subprocess.Popen[bytes]) -> float:
    """Seconds until the first answered chat."""
    start = time.monotonic()
    while time.monotonic() - start < FIRST_ANSWER:
        require(demo.poll() is None, f"make demo ended with {demo.poll()}")
        try:
            await chat(ai)
        except Exception:  # whatever it is, it is not up yet
            await asyncio.sleep(0.05)
        else:
            return time.monotonic() - start
    raise SmokeError(f"no answer within {FIRST_ANSWER:g} s")


def read_controls(log: Path) -> tuple[str, str]:
    """Where node large is disturbed, and where one of its siblings revives it: as the hints say."""
    told = log.read_text()
    urls = [re.search(rf"{word} +curl (http://\S+)", told) for word in ("kill it", "and undo")]
    if urls[0] is None or urls[1] is None:
        raise SmokeError("make demo does not say how to kill a node and undo it")
    return urls[0][1], urls[1][1]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def find_left(mark: str) -> list[str]:
    """The command lines of processes that the demo started, directly or not."""
    left = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name != str(os.getpid()) and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                left.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
        except OSError:
            continue
    return left


def end_demo(demo: subprocess.Popen[bytes], mark: str, folder: Path) -> float:
    """Ctrl-C; answers the seconds until nothing was left."""
    start = time.monotonic()
    os.killpg(demo.pid, signal.SIGINT)
    try:
        demo.wait(END)
    except subprocess.TimeoutExpired:
        raise SmokeError(f"make demo runs on {END:g} s after Ctrl-C") from None
    while (left := find_left(mark)) and time.monotonic() - start < END:
        time.sleep(0.05)
    require(not left, f"left running: {left}")
    files = sorted(path.name for path in folder.iterdir())
    require(not files, f"left in the temporary directory: {files}")
    return time.monotonic() - start


def kill_left(demo: subprocess.Popen[bytes]) -> None:
    if demo.poll() is None:
        os.killpg(demo.pid, signal.SIGKILL)
        demo.wait()


def start_demo(venv: str, ports: list[int], mark: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            ["make", "demo", f"VENV={venv}", f"PORT={ports[0]}", f"ADMIN=127.0.0.1:{ports[1]}"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {MARK: mark, "TMPDIR": str(folder)},
        )


async def smoke(venv: str, work: Path) -> str:
    """What was seen, in one line."""
    folder, log, mark = work / "tmp", work / "log", work.name
    folder.mkdir()
    ports = free_ports(2)
    demo = start_demo(venv, ports, mark, folder, log)
    try:
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{ports[0]}/v1", api_key="none", max_retries=0, timeout=30
        ) as ai:
            first = await wait_answer(ai, demo)
            asked = await exercise(ai, read_controls(log))
        ended = end_demo(demo, mark, folder)
    except BaseException:
        print(log.read_text(), file=sys.stderr)
        raise
    finally:
        kill_left(demo)
    return f"first answer after {first:.1f} s; {asked} requests, none failed; nothing left {ended:.1f} s after Ctrl-C"


def flatten(error: Exception) -> list[Exception]:
    if isinstance(error, ExceptionGroup):
        return [leaf for each in error.exceptions for leaf in flatten(each)]
    return [error]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="weighbridge-smoke-") as work:
        try:
            print("smoke:", asyncio.run(smoke(sys.argv[1], Path(work))))
        except Exception as error:
            for each in flatten(error):
                print(f"smoke failed: {type(each).__name__}: {each}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
