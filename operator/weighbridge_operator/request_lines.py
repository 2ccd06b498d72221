"""What `weighbridge up` does for the request log, which Envoy writes: sees that it can, or passes its lines to stdout.

No request waits for any of it. Envoy's lines come through a pipe that is always read; where nobody takes them from our
standard output they are kept up to a bound and then dropped, whole lines, and the log says how many.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from weighbridge_operator.envoy_process import open_pipe

KEPT: Final = 8 * 2**20  # bytes that wait for a reader; some 15,000 lines
LINE: Final = 2**16  # bytes, far above the longest line
SAID: Final = 60.0  # seconds between two words about dropped lines
END: Final = 1.0  # seconds for what waits, at the end
MODE: Final = 0o640
log = logging.getLogger("weighbridge")


def require_file(place: str) -> str:
    """The absolute path, to which Envoy can append. Raises OSError with a remedy."""
    path = Path(place).absolute()
    try:
        # Without waiting: a pipe that nobody reads would hold up Envoy for ever.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, MODE)
    except OSError as error:
        raise OSError(f"cannot write the request log {place}: {error.strerror}") from error
    kind = os.fstat(descriptor).st_mode
    os.close(descriptor)
    if not stat.S_ISREG(kind) and not stat.S_ISCHR(kind):
        raise OSError(f"cannot write the request log {place}: it is not a file; - is standard output")
    return str(path)


class PassedLines:
    """`async with PassedLines(1) as lines:` passes on to descriptor 1 what a child writes to `lines.writing`."""

    def __init__(self, out: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._waiting: deque[bytes] = deque()
        self._size = self._dropped = 0
        self._rest = b""
        self._said = -SAID
        self._changed = threading.Condition()
        self._ended = False
        self.writing = -1

    async def __aenter__(self) -> PassedLines:
        reading, self.writing = open_pipe()
        self._done = asyncio.Event()
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _Reader(self), os.fdopen(reading, "rb", buffering=0)
        )
        self._thread = threading.Thread(target=self._write, name="request log", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.writing)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), END)
        self._transport.close()
        with self._changed:
            self._ended = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, END)

    @property
    def waiting(self) -> int:
        """Bytes that nobody has taken yet."""
        return self._size

    def feed(self, data: bytes) -> None:
        """The next bytes, cut anywhere. Keeps whole lines, or drops them where too many wait."""
        whole, _, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest[:LINE]
        if not whole:
            return
        with self._changed:
            if self._size + len(whole) < KEPT:
                self._waiting.append(whole + b"\n")
                self._size += len(whole) + 1
                self._changed.notify()
                return
        self._dropped += whole.count(b"\n") + 1
        if self._clock() - self._said >= SAID:
            self._said = self._clock()
            log.warning("request log: %d lines dropped, nobody takes them from standard output", self._dropped)

    def end(self) -> None:
        """No more will come."""
        self._done.set()

    def _write(self) -> None:
        with suppress(OSError):  # nobody reads any more: from now on lines are dropped
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ended)
                    if not self._waiting:
                        return
                    data = self._waiting.popleft()
                view = memoryview(data)
                while view:
                    view = view[os.write(self._out, view) :]
                with self._changed:
                    self._size -= len(data)


class _Reader(asyncio.Protocol):
    """What comes through the pipe."""

    def __init__(self, lines: PassedLines) -> None:
        self._lines = lines

    def data_received(self, data: bytes) -> None:
        self._lines.feed(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._lines.end()
