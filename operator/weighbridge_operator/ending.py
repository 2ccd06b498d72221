"""The end of a process that was told to end: cleanly, and in any case.

A thread that waits for an API server which no longer answers would hold up the end until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

PATIENCE = 20.0  # seconds; a cluster kills after thirty


class Ending:
    """The first SIGTERM or SIGINT sets `told`; a second one, or `patience` seconds, end the process as it stands."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.told = asyncio.Event()
        self._patience = patience
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hear)

    def _hear(self) -> None:
        if self.told.is_set():
            _give_up("a second signal came")
        self.told.set()
        timer = threading.Timer(self._patience, _give_up, (f"not everything ended within {self._patience:g} s",))
        timer.daemon = True
        timer.start()


def _give_up(why: str) -> None:
    print(f"weighbridge: {why}; ended anyway", file=sys.stderr, flush=True)
    os._exit(1)
