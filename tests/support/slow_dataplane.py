"""The real data plane, of which SIGUSR1 makes a slow one: it takes what Envoy sends it PAUSE seconds late, checks too.

COMMAND is for `python -c`: run as a script it would find a neighbour in the place of the package `envoy`.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from weighbridge_api.console import main
from weighbridge_dataplane.server import Link

PAUSE = 0.05  # seconds
_PLACE = str(Path(__file__).parents[1])
COMMAND = f"import sys; sys.path.append({_PLACE!r}); from support.slow_dataplane import run; sys.exit(run())"


def run() -> int:
    """The command `weighbridge`."""
    signal.signal(signal.SIGUSR1, _slow_down)
    return main()


def _slow_down(*_: Any) -> None:
    take = Link.data_received

    def take_later(link: Link, data: bytes) -> None:
        asyncio.get_running_loop().call_later(PAUSE, take, link, data)

    Link.data_received = take_later  # type: ignore[method-assign]
