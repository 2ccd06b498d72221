"""Envoy's log lines as records of Python's logging, so that one handler writes both and no line cuts into another. Pure
but for the logger it is given.

Envoy is started with `--log-format LOG_FORMAT`. A line without that head (a stack trace, a text of several lines)
belongs to the one before it. Text of callers can be in a line: it is cut, and what doesn't print is replaced.
"""

from __future__ import annotations

import logging
import re
from collections import deque

LOG_FORMAT = "[%l][%n] %v"
LINE_LIMIT = 2000  # characters
TAIL = 5  # lines kept to say why it died

#: Its information is our detail: in normal operation it says nothing that concerns the user.
LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.DEBUG,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
#: Said of the filter for callers' keys with every change of routes, which docs/operations.md says once; and with every
#: request that finds the data plane dead, which the weights then serve and whose supervisor says it once.
KNOWN = ("marked as work-in-progress", "Received gRPC error on stream")
_HEAD = re.compile(r"\[(trace|debug|info|warning|error|critical)\]\[([\w.]{1,40})\] ")


class EnvoyLog:
    """Takes bytes as they come and logs whole lines."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._rest = b""
        self._level = logging.WARNING
        self._hushed = False
        self.tail: deque[str] = deque(maxlen=TAIL)

    def feed(self, data: bytes) -> None:
        """The next bytes, cut anywhere."""
        *lines, rest = (self._rest + data).split(b"\n")
        # A line may be endless; what is beyond the limit is dropped as it comes.
        self._rest = rest[: 4 * LINE_LIMIT]
        for line in lines:
            self._write(line)

    def hush(self) -> None:
        """From now on its end is ordered, and that it says so is a detail."""
        self._hushed = True

    def end(self) -> None:
        """No more will come."""
        self._write(self._rest)
        self._rest = b""

    def _write(self, line: bytes) -> None:
        text = line[: 4 * LINE_LIMIT].decode(errors="replace").rstrip()
        if not text:
            return
        if head := _HEAD.match(text):
            self._level = LEVELS[head[1]]
            text = f"{head[2]}: {text[head.end() :]}"
        text = _clean(text)
        usual = any(known in text for known in KNOWN) and self._level < logging.ERROR
        if not usual:
            self.tail.append(text)
        hushed = usual or (self._hushed and self._level < logging.ERROR)
        self._log.log(logging.DEBUG if hushed else self._level, "%s", text)


def choose_level(log: logging.Logger) -> str:
    """Envoy's own level: what would not be shown need not be written."""
    return "info" if log.isEnabledFor(logging.DEBUG) else "warning"


def _clean(text: str) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:LINE_LIMIT])
    return shown if len(text) <= LINE_LIMIT else f"{shown}…"
