"""`weighbridge simulate`: simulated model nodes until a signal comes, or the parent is gone."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from weighbridge_simulator.flags import KEYS, FlagError, build_spec, read_pairs, read_value
from weighbridge_simulator.fleet import Fleet, PortTakenError
from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.sender import send_traffic

RATE = 10.0  # requests a second that are sent, if nothing else is said
_LOOK = 0.5  # seconds between two looks for the parent


def main(argv: list[str]) -> int:
    """Run the command. 0 after a signal, 2 if it could not start."""
    options = _parser().parse_args(argv)
    try:
        specs = _read_specs(options)
        _check_sending(options)
        alone = options.send and not options.node
        return _run(_send(specs[0], options) if alone else _serve(specs, options))
    except (FlagError, PortTakenError, ValueError) as error:
        print(f"weighbridge simulate: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weighbridge simulate",
        description="Simulated model nodes. One node from the flags, or several with --node, which take the flags as "
        'defaults. Change a running node with POST /sim/control, for example {"slow": 5}, {"flood": 4}, '
        '{"freeze": true}, {"node": "b", "down": true} or {"clear": true}; see it with GET /sim/state.',
    )
    keys = ", ".join(KEYS)
    parser.add_argument("--node", action="append", default=[], metavar="KEY=VALUE,...", help=f"a node; keys: {keys}")
    for name, key in KEYS.items():
        flag = "--" + name.replace("_", "-")
        if name in ("zero", "machine"):
            parser.add_argument(flag, dest=name, action="append_const", const="true", help=key.meaning)
        else:
            parser.add_argument(flag, dest=name, action="append", metavar="VALUE", help=key.meaning)
    parser.add_argument(
        "--send",
        metavar="URL",
        help="send chat requests for the model there, and count them; without --node nothing else",
    )
    parser.add_argument("--rate", type=float, help=f"with --send: requests a second (default: {RATE:g})")
    parser.add_argument("--print-json", action="store_true", help="announce the ports on stdout as one line of JSON")
    parser.add_argument("--parent-pid", type=int, metavar="PID", help="end when this process is gone")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input does")
    return parser


def _read_specs(options: argparse.Namespace) -> list[NodeSpec]:
    common = [(name, read_value(name, text)) for name in KEYS for text in getattr(options, name) or ()]
    if not options.node:
        return [build_spec(common)]
    specs = []
    for text in options.node:
        pairs = read_pairs(text)
        own = {name for name, _ in pairs}
        specs.append(build_spec([pair for pair in common if pair[0] not in own] + pairs))
    return specs


def _check_sending(options: argparse.Namespace) -> None:
    """FlagError where a flag would do nothing."""
    if options.send is None:
        if options.rate is not None:
            raise FlagError("--rate is of the requests that --send sends: add --send URL, or leave it out")
        return
    given = [name for name in KEYS if getattr(options, name) and name != "model"]
    if given and not options.node:
        flag = given[0].replace("_", "-")
        remedy = f"write it as --node {given[0]}=..., or leave it out"
        raise FlagError(f"--{flag} is of a node, and --send alone starts none: {remedy}")
    if options.rate is not None and options.rate <= 0:
        raise FlagError(f"--rate takes a number above 0, not {options.rate:g}")


def _await_signal() -> asyncio.Event:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


async def _send(spec: NodeSpec, options: argparse.Namespace) -> int:
    ended = _await_signal()
    sending = _start_sending(spec, options, ended)
    await _wait(ended, options.parent_pid)
    ended.set()
    await sending
    return 0


def _start_sending(spec: NodeSpec, options: argparse.Namespace, ended: asyncio.Event) -> asyncio.Task[None]:
    model, rate = spec.models[0][0], options.rate or RATE
    if not options.print_json:
        print(f"sends {rate:g} chat requests a second for {model} to {options.send}", flush=True)
    return asyncio.create_task(send_traffic(options.send, model, rate, ended, tell=options.print_json))


async def _serve(specs: Sequence[NodeSpec], options: argparse.Namespace) -> int:
    ended = _await_signal()
    loop = asyncio.get_running_loop()
    sending: asyncio.Task[None] | None = None
    async with Fleet(specs) as fleet:
        announcement = fleet.announce()
        if options.print_json:
            print(json.dumps(announcement), flush=True)
        else:
            for node in announcement["nodes"]:
                where = f"http://{node['host']}:{node['port']}"
                print(f"{node['name']}: {where} serves {', '.join(node['models'])}", flush=True)
        if options.end_with_stdin:
            await loop.connect_read_pipe(lambda: _Input(ended.set), sys.stdin)
        if options.send:
            sending = _start_sending(specs[0], options, ended)
        await _wait(ended, options.parent_pid)
        ended.set()
        if sending is not None:
            await sending
    return 0


class _Input(asyncio.Protocol):
    """Tells when standard input ends."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def connection_lost(self, _: Exception | None) -> None:
        self._ended()


async def _wait(ended: asyncio.Event, parent: int | None) -> None:
    """Wait for the end, or until the parent is gone."""
    while not ended.is_set() and (parent is None or _lives(parent)):
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), None if parent is None else _LOOK)


def _lives(pid: int) -> bool:
    """Whether a process runs. One that was killed and that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except (PermissionError, FileNotFoundError):
        return True  # somebody else's process, or a system without /proc
    return state not in ("Z", "X")


def _run(work: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop  # noqa: PLC0415  the loop of choice where it is installed
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
