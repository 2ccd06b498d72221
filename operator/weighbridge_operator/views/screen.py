"""Writing in a thread of its own: a terminal or a pipe that takes nothing must never hold up the control plane.

The thread is a daemon and polls the cell, which is one attribute to read; it ends when the task that runs it does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

END: Final = 1.0  # seconds that the thread has to put the terminal in order

#: Draws until the event is set.
Body = Callable[[threading.Event], None]


async def run_aside(body: Body, name: str) -> None:
    """Runs `body` in a thread until this task is cancelled; raises what it raises."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    stop, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            body(stop)
        except BaseException as failure:  # it is raised below, in the task
            failures.append(failure)
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        await ended.wait()
    finally:
        stop.set()
        thread.join(END)
    if failures:
        raise failures[0]


class LineHandler(logging.Handler):
    """Hands each log record to a view as one line, from whatever thread."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Formats the record and hands it on."""
        try:
            self._sink(self.format(record))
        except Exception:  # logging must not fail its caller
            self.handleError(record)
