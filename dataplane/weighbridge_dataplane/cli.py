"""`weighbridge dataplane`: the processor beside an Envoy, until a signal comes."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from weighbridge_dataplane.server import Server, SocketUnavailableError

GRACE = 10.0  # seconds for running requests after a signal


def main(argv: Sequence[str]) -> int:
    """0 after a signal, 2 with one line on stderr if it could not start."""
    parser = argparse.ArgumentParser(
        prog="weighbridge dataplane",
        description="Answer an Envoy's ext_proc filter. It lets every message pass as it is: no policy of this version "
        "needs it, so no route asks it, and `weighbridge up` does not start it.",
    )
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="the Unix socket to listen on")
    path: Path = parser.parse_args(argv).socket
    try:
        return asyncio.run(_serve(path))
    except SocketUnavailableError as error:
        sys.stderr.write(f"weighbridge dataplane: {error}\n")
        return 2


async def _serve(path: Path) -> int:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = Server()
    await server.start(path)
    sys.stdout.write(f"listening on {path}\n")
    sys.stdout.flush()
    await ended.wait()
    await server.stop(GRACE)
    return 0
