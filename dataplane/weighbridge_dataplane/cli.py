"""`weighbridge dataplane`: the processor beside an Envoy, until a signal comes."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from weighbridge_api import flags
from weighbridge_api.wire import KEPT_MOST
from weighbridge_dataplane.admin import Admin, ListenError
from weighbridge_dataplane.choices import KEPT
from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.exchange import Head
from weighbridge_dataplane.facts import Choice
from weighbridge_dataplane.keeper import BEAT
from weighbridge_dataplane.peer_flags import add_peers, make_peers
from weighbridge_dataplane.peers import PeersError
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.records import Levels, Records
from weighbridge_dataplane.server import Server, SocketUnavailableError
from weighbridge_dataplane.watch import Watch

GRACE = 10.0  # seconds for running requests after a signal
_ADMIN = re.compile(r"http://[\w.\-\[\]:]{1,253}")


def main(argv: Sequence[str]) -> int:
    """0 after a signal, 2 with one line on stderr if it could not start."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        return asyncio.run(_serve(options))
    except (SocketUnavailableError, ListenError, PeersError) as error:
        sys.stderr.write(f"weighbridge dataplane: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weighbridge dataplane",
        description="Name a node for each request whose policy says `precise`, for the Envoy beside it. Start it where "
        "that Envoy's bootstrap says (--dataplane-socket); several processes have a socket each.",
    )
    parser.add_argument("--socket", required=True, metavar="PATH", help="the Unix socket to listen on, or @NAME")
    parser.add_argument(
        "--admin-url",
        type=_read_admin,
        default="http://127.0.0.1:9901",
        metavar="URL",
        help="administration interface of the Envoy (%(default)s)",
    )
    parser.add_argument(
        "--listen", type=flags.address, metavar="ADDRESS:PORT", help="for /metrics, /healthz and /choices"
    )
    parser.add_argument(
        "--keep-choices",
        type=flags.number(1, KEPT_MOST),
        default=KEPT,
        metavar="N",
        help="how many of the last choices /choices can tell; some 600 bytes each (%(default)s)",
    )
    parser.add_argument(
        "--metrics",
        type=flags.address,
        metavar="ADDRESS:PORT",
        help="for /metrics and /healthz alone, where others than this machine may ask",
    )
    add_peers(parser)
    # The keeper's: a sign of life each second, into this file.
    parser.add_argument("--beat", type=int, help=argparse.SUPPRESS)
    return parser


def _read_admin(text: str) -> str:
    if not _ADMIN.fullmatch(text.rstrip("/")):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no URL like http://127.0.0.1:9901")
    return text.rstrip("/")


async def _serve(options: argparse.Namespace) -> int:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    records, pools = Records(options.keep_choices), Pools(partial(Chooser, random.random, options.peer_processes))
    watch = Watch(options.admin_url, pools, records)
    peers = make_peers(options, pools, records)

    def choose(head: Head) -> Choice:
        assert head.policy is not None
        now = time.monotonic()
        choice = pools.choose(head.policy.clusters, head.asked, now)
        if peers is not None:
            peers.note(choice, now)
        return choice

    server = Server(choose, records)

    def measure() -> Levels:
        levels = replace(watch.measure(), in_time=server.in_time)
        return levels if peers is None else peers.measure(levels)

    admin = Admin(records, measure, lambda: server.serving, lambda: pools.members, options.socket)
    working = [watch.run(), *([] if peers is None else [peers.run()])]
    working += [] if options.beat is None else [_beat(options.beat)]
    # What is there by now stays; a collection that looks at all of it would hold a request for its time.
    gc.freeze()
    tasks = [asyncio.create_task(work) for work in working]
    try:
        await _listen(options, admin, server)
        await _wait(ended, tasks)
        return 0
    finally:
        await server.stop(GRACE)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await admin.stop()


async def _listen(options: argparse.Namespace, admin: Admin, server: Server) -> None:
    port = None if options.listen is None else await admin.start(*options.listen)
    if options.metrics is not None:
        await admin.start(*options.metrics, choices=False)
    await server.start(options.socket)
    if port is not None:
        sys.stdout.write(f"metrics at port {port}\n")
    sys.stdout.write(f"listening on {options.socket}\n")
    sys.stdout.flush()


async def _wait(ended: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Until the end. A watch that fails ends it, too: who started it starts it anew."""
    signalled = asyncio.create_task(ended.wait())
    await asyncio.wait((signalled, *tasks), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()


async def _beat(file: int) -> None:
    """Signs of life for the keeper, until it is gone."""
    with suppress(BrokenPipeError):
        while True:
            os.write(file, b".")
            await asyncio.sleep(BEAT)
