"""The live table of `weighbridge up` and `make demo`, on the terminal's other screen, so that nothing of it stays.

The picture is drawn whole, over the last one and never after a wipe, which is why it does not flicker; a new size
is noticed within a twentieth of a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TextIO

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.style import Style
from rich.text import Text

from weighbridge_operator.latest import Latest
from weighbridge_operator.report import Report
from weighbridge_operator.views.frame import Screen, draw
from weighbridge_operator.views.lines import Line, Look, clean
from weighbridge_operator.views.screen import run_aside
from weighbridge_operator.views.words import to_plain

REFRESH: Final = 0.33  # seconds between pictures
REST: Final = 25  # times as long as a picture takes passes at least before the next: 4 % of a core
SLOWEST: Final = 1.0  # seconds
LOOK: Final = 0.05  # seconds between looks at the size
KEPT: Final = 6  # log lines
STYLES: Final[Mapping[Look, Style]] = MappingProxyType(
    {
        "plain": Style(),
        "bold": Style(bold=True),
        "dim": Style(dim=True),
        "good": Style(color="green"),
        "warn": Style(color="yellow"),
        "bad": Style(color="red", bold=True),
        "head": Style(color="cyan", bold=True),
    }
)


class LiveView:
    """Shows the newest report until cancelled, then puts the terminal back and leaves the last log lines on it."""

    def __init__(
        self,
        reports: Latest[Report],
        hints: Sequence[str] = (),
        *,
        stream: TextIO | None = None,
        colour: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reports, self._hints, self._clock = reports, tuple(hints), clock
        self._console = Console(file=stream, no_color=not colour, highlight=False, markup=False, emoji=False)
        self._log: deque[str] = deque(maxlen=KEPT)
        self._seen, self._since = 0, clock()

    async def run(self) -> None:
        """Until cancelled."""
        await run_aside(self._work, "live view")

    def log(self, line: str) -> None:
        """Shows a line of log below the table; from any thread."""
        self._log.append(clean(line))

    def _work(self, stop: threading.Event) -> None:
        # Nothing is redirected: whoever prints past us is painted over, and sees his own stream again at once.
        live = Live(
            self._picture(),
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        try:
            with live:
                self._show(live, stop)
        finally:
            for line in tuple(self._log):
                self._console.print(Text(line), highlight=False)

    def _show(self, live: Live, stop: threading.Event) -> None:
        size, drawn, pause = self._size(), self._clock(), REFRESH
        while not stop.wait(LOOK):
            now = self._clock()
            if now - drawn < pause and self._size() == size:
                continue
            size, drawn = self._size(), now
            live.update(self._picture(), refresh=True)
            pause = min(SLOWEST, max(REFRESH, REST * (self._clock() - now)))

    def _size(self) -> ConsoleDimensions:
        # The console would ask standard input first, and take the environment's word over the terminal's.
        try:
            width, height = os.get_terminal_size(self._console.file.fileno())
        except OSError:
            width = height = 0
        return ConsoleDimensions(width or 80, height or 24)

    def _picture(self) -> Group:
        version = self._reports.version
        if version != self._seen:
            self._seen, self._since = version, self._clock()
        width, height = self._console.size = self._size()
        fine = self._console.encoding.startswith("utf")
        elapsed = self._clock() - self._since
        lines = draw(self._reports.get(), Screen(width, height, fine), self._hints, tuple(self._log), elapsed)
        return Group(*(_text(line, fine) for line in lines))


def _text(line: Line, fine: bool) -> Text:
    text = Text(no_wrap=True, overflow="crop", end="\n")
    for span in line:
        text.append(span.text if fine else to_plain(span.text), STYLES[span.look])
    return text
