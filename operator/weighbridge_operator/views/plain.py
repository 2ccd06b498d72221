"""What `weighbridge up` prints where no terminal is: a line, or a JSON object, for each change that matters."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from weighbridge_operator.latest import Latest
from weighbridge_operator.report import Report
from weighbridge_operator.views.changes import compare, tell
from weighbridge_operator.views.lines import clean
from weighbridge_operator.views.screen import run_aside

LOOK: Final = 0.2  # seconds between looks at the cell
BACKLOG: Final = 1000  # log lines kept for a reader that is slow


class PlainView:
    """Prints changes until cancelled. Where nobody reads any more it falls silent; the gateway goes on."""

    def __init__(
        self,
        reports: Latest[Report],
        hints: Sequence[str] = (),
        *,
        stream: TextIO,
        output: Literal["text", "json"] = "text",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._reports, self._hints, self._clock = reports, tuple(hints), clock
        self._stream, self._json = stream, output == "json"
        self._told: Report | None = None
        self._lines: deque[str] = deque(maxlen=BACKLOG)

    async def run(self) -> None:
        """Until cancelled."""
        await run_aside(self._work, "plain view")

    def log(self, line: str) -> None:
        """Puts a line of log among the changes; from any thread."""
        self._lines.append(line)

    def _work(self, stop: threading.Event) -> None:
        try:
            if not self._json:
                self._write([clean(hint) for hint in self._hints])
            while not stop.wait(LOOK):
                self._look()
            self._look()
        except (OSError, ValueError):
            stop.wait()

    def _look(self) -> None:
        at = self._clock().isoformat(timespec="milliseconds")
        lines = []
        while self._lines:
            line = self._lines.popleft()
            lines.append(json.dumps({"at": at, "what": "log", "text": line}) if self._json else clean(line))
        report = self._reports.get()
        if report is not None and report is not self._told:
            changes, self._told = compare(self._told, report), report
            lines += (
                [json.dumps({"at": at} | asdict(change), ensure_ascii=False) for change in changes]
                if self._json
                else tell(changes)
            )
        self._write(lines)

    def _write(self, lines: Sequence[str]) -> None:
        if lines:
            text = "".join(f"{line}\n" for line in lines)
            encoding = self._stream.encoding or "utf-8"
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
