"""The real data plane, to which nodes' pages come late: as many seconds as its environment says, their time as it was.

COMMAND is for `python -c`: run as a script it would find a neighbour in the place of the package `envoy`.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from weighbridge_api.console import main
from weighbridge_dataplane.facts import Sample
from weighbridge_dataplane.pools import Pools

LATE = "PAGES_LATE"  # seconds
_PLACE = str(Path(__file__).parents[1])
COMMAND = f"import sys; sys.path.append({_PLACE!r}); from support.late_dataplane import run; sys.exit(run())"


def run() -> int:
    """The command `weighbridge`."""
    late, read = float(os.environ[LATE]), Pools.read

    def read_later(pools: Pools, address: str, sample: Sample | None, _: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(late, lambda: read(pools, address, sample, time.monotonic()))

    Pools.read = read_later  # type: ignore[method-assign]
    return main()
