"""The live table on a real pseudo terminal: drawn, redrawn at a new size, and gone without a trace."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support import reports
from weighbridge_operator.latest import Latest
from weighbridge_operator.report import Report
from weighbridge_operator.views.live import LiveView

ENTER, LEAVE, SHOW, CLEAR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[2J"

STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A pseudo terminal and all that was written to it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self.written = b""
        os.set_blocking(self.master, False)
        self.resize(80, 24)
        self.before = termios.tcgetattr(slave)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read(self) -> bytes:
        with suppress(BlockingIOError):
            while True:
                self.written += os.read(self.master, 65536)
        return self.written

    async def until(self, text: str, since: int = 0) -> None:
        for _ in range(250):
            if text in STYLE.sub("", self.read()[since:].decode(errors="replace")):
                return
            await asyncio.sleep(0.02)
        pytest.fail(f"{text} never came")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    found = Terminal()
    yield found
    found.file.close()
    os.close(found.master)


def start(terminal: Terminal, *, colour: bool = True) -> tuple[Latest[Report], LiveView, asyncio.Task[None]]:
    cell: Latest[Report] = Latest()
    view = LiveView(cell, ("End: Ctrl-C",), stream=terminal.file, colour=colour)
    return cell, view, asyncio.create_task(view.run())


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_it_draws_follows_and_restores_the_terminal(terminal: Terminal) -> None:
    cell, view, task = start(terminal)
    await terminal.until("waiting for the first report")
    cell.set(reports.healthy())
    view.log("envoy: \x1b[31ma line")
    await terminal.until("qwen-middle")
    await terminal.until("envoy: a line")
    terminal.resize(200, 40)
    await terminal.until("WHY")
    await end(task)
    written = terminal.read()
    assert written.index(ENTER) < written.index(LEAVE)
    assert SHOW in written[written.index(LEAVE) - 40 :]
    assert termios.tcgetattr(terminal.file.fileno()) == terminal.before
    assert "envoy: a line" in written[written.rindex(LEAVE) :].decode()


async def test_a_new_size_does_not_wait_for_the_next_picture(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REFRESH", "SLOWEST"):
        monkeypatch.setattr(f"weighbridge_operator.views.live.{name}", 3600.0)
    _, _, task = start(terminal)
    await terminal.until("End: Ctrl-C")
    drawn = len(terminal.read())
    terminal.resize(100, 30)
    await terminal.until("─" * 100, drawn)
    await end(task)


async def test_it_never_wipes_the_screen_between_pictures(terminal: Terminal) -> None:
    cell, _, task = start(terminal)
    cell.set(reports.healthy())
    await terminal.until("qwen-middle")
    drawn = len(terminal.read())
    await terminal.until("qwen-middle", drawn)
    await end(task)
    written = terminal.read()
    assert CLEAR not in written[written.index(ENTER) + len(ENTER) : written.index(LEAVE)]


async def test_without_colours_the_signs_stay(terminal: Terminal) -> None:
    cell, _, task = start(terminal, colour=False)
    cell.set(reports.troubled())
    await terminal.until("✗ qwen-large")
    await end(task)
    assert b"31m" not in terminal.read()


async def test_a_fault_in_drawing_restores_the_terminal_and_is_raised(terminal: Terminal) -> None:
    cell, _, task = start(terminal)
    await terminal.until("waiting")
    cell.set("no report")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        await asyncio.wait_for(task, 5)
    assert LEAVE in terminal.read()


async def test_a_terminal_that_takes_nothing_does_not_hold_up_the_loop(terminal: Terminal) -> None:
    cell, _, task = start(terminal)
    cell.set(reports.many())
    await terminal.until("node-077")
    termios.tcflow(terminal.file.fileno(), termios.TCOOFF)
    began = time.monotonic()
    await asyncio.sleep(0.8)
    assert time.monotonic() - began < 1.5
    termios.tcflow(terminal.file.fileno(), termios.TCOON)
    await end(task)
