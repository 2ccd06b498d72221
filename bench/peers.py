"""Other gateways beside ours in the same run: the balance on the same fleets, and what a request costs.

`make bench-peers` runs it. Every gateway has one process and the policy of its own that follows load. Balance: requests
spell their sizes in the body, since some gateways drop unknown headers. Overhead: one CPU for the gateway under test,
an Envoy as upstream that answers at once, each variant right beside the bare Envoy, round by round. A peer that cannot
be had or does not start is named and left out. The inference extension's endpoint picker, whose work is in two
processes, is measured for balance alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop
from rich.table import Table

import balance
import overhead
import picker
import selection
from cells import Open, Ports
from journal import Journal, JournalError
from mechanisms import Gateway
from programs import PEERS, Peer, install, start
from support.envoy import RealEnvoy
from support.stack import Stack
from weighbridge_comparison.cells import list_mechanisms, p99, tell_ratio, tell_time
from weighbridge_comparison.files import FleetError
from weighbridge_comparison.fleet import Fleet
from weighbridge_comparison.options import add_flags, read_settings
from weighbridge_comparison.results import keep
from weighbridge_comparison.setting import Setting
from weighbridge_comparison.tables import make_console, show_cells
from weighbridge_simulator.outcome import Turns
from weighbridge_simulator.traffic import Question
from wrk import require_wrk, write_script

#: Fleets and loads, where none are named.
SETTINGS = {"uneven": 0.8, "others": 0.85, "one-slow": 0.85, "uniform": 0.8}
SECONDS = 75.0
RESTS = {"LiteLLM": 2.0}  # seconds that it takes to work off what 32 connections left behind
S4_RATE, S4_ADDED = 50.0, 1 / 20  # of LiteLLM's throughput, of its added latency


class Beside:
    """A peer before a fleet, as the balance benchmark wants a gateway."""

    def __init__(self, url: str) -> None:
        self.url, self.pushes, self.turns, self.told = url, 0, Turns(), None

    async def join(self, at: float) -> None:
        """Refused: a peer is told its nodes when it starts."""
        raise NotImplementedError(f"nodes that join (at {at:g} s) are not run with peers")

    async def count_overdue(self) -> None:
        """Not known: the picker may take as long as it likes, as its project has it."""


@asynccontextmanager
async def open_peer(peer: Peer, _: Fleet, ports: Ports) -> AsyncIterator[Beside]:
    """Runs a peer before this fleet."""
    async with start(peer, _list_nodes(ports), "sim") as (url, _process):
        yield Beside(url)


@asynccontextmanager
async def open_picker(_: Fleet, ports: Ports) -> AsyncIterator[Beside]:
    """Runs the inference extension's endpoint picker and its Envoy before this fleet."""
    async with picker.start(_list_nodes(ports), "sim") as (url, _process):
        yield Beside(url)


def _list_nodes(ports: Ports) -> list[str]:
    return [f"http://{port['host']}:{port['port']}" for port in ports]


async def find_peers(names: Sequence[str] | None) -> list[Peer]:
    """Those that are wanted and can be installed; of the others it is said why not."""
    found = []
    for peer in PEERS:
        if names and not any(name.lower() in peer.name.lower() for name in names):
            continue
        try:
            await install(peer)
        except (RuntimeError, OSError, TimeoutError) as error:
            print(f"{peer.name} {peer.version} is left out: {error}", file=sys.stderr)
        else:
            found.append(peer)
    return found


async def has_picker(names: Sequence[str] | None) -> bool:
    """Whether the inference extension's endpoint picker is wanted and can be built; if not, it is said why."""
    if names and not any(name.lower() in picker.NAME for name in names):
        return False
    try:
        await picker.build()
    except (RuntimeError, OSError, TimeoutError) as error:
        print(f"{picker.NAME} {picker.VERSION} is left out: {error}", file=sys.stderr)
        return False
    return True


async def compare_balance(
    settings: Sequence[Setting], peers: Sequence[Peer], options: argparse.Namespace, journal: Journal
) -> int:
    """The same fleets through ours, Envoy alone and the peers; tables, and the ratios."""
    gateways: dict[str, Open] = {name: partial(Gateway, name) for name in ("llm", "LEAST_REQUEST")}
    gateways |= {f"{peer.name} {peer.policy}": partial(open_peer, peer) for peer in peers}
    if await has_picker(options.peer):
        gateways[f"{picker.NAME} queue, kv"] = open_picker
    # One fleet at a time: a gateway in Python takes as much CPU as all others together.
    how = balance.How(0.0, question=Question(spelled=True), journal=journal)
    cells = await balance.measure(settings, gateways, how)
    console = make_console()
    table = Table(title="p99 time to the first token, times ours (llm)", title_justify="left")
    names = [name for name in list_mechanisms(cells) if name != "llm"]
    for heading in ("", "ours, s", *names):
        table.add_column(heading, justify="left" if not heading else "right")
    for setting in settings:
        show_cells(console, setting, cells)
        own = [cell for cell in cells if (cell.setting, cell.load) == (setting.name, setting.load)]
        waits = {name: p99([cell for cell in own if cell.mechanism == name]) for name in list_mechanisms(own)}
        table.add_row(
            setting.title, tell_time(waits["llm"]), *(tell_ratio(waits[name], waits["llm"]) for name in names)
        )
    console.print(table)
    return keep(settings, cells, options)


async def compare_overhead(peers: Sequence[Peer], rounds: int, seconds: float) -> None:
    """What a plain chat costs through each, in one table."""
    async with AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        upstream = await running.enter_async_context(RealEnvoy(overhead.make_upstream(keeps=True)))
        port = await upstream.listener_port()
        bare = await running.enter_async_context(RealEnvoy(overhead.make_bare(port)))
        ours = await running.enter_async_context(Stack(*overhead.make_nodes(port, 0), debug_headers=False))
        script = write_script(folder / "plain.lua", overhead.body(overhead.MODEL))
        served = {
            "bare Envoy": (f"http://127.0.0.1:{await bare.listener_port()}", overhead.pid_of(bare)),
            "Weighbridge": (ours.url, overhead.pid_of(ours.envoys[0])),
        }
        for peer in peers:
            try:
                served[peer.name] = await running.enter_async_context(
                    start(peer, [f"http://{host}:{port}" for host in ("127.0.0.1", "localhost")], overhead.MODEL)
                )
            except RuntimeError as error:
                print(f"{peer.name} {peer.version} is left out of the overhead: {error}", file=sys.stderr)
        overhead.place(
            under_test=[process for _, process in served.values()], beside=[overhead.pid_of(upstream), os.getpid()]
        )
        path = "/v1/chat/completions"
        variants = [
            overhead.Variant(name, url + path, script, process, rest=RESTS.get(name, 0.0), alone=2.0)
            for name, (url, process) in served.items()
        ]
        seen = await overhead.measure(variants, rounds, seconds)
    show_overhead(seen, rounds, seconds)


def show_overhead(seen: Mapping[str, Sequence[overhead.Pair]], rounds: int, seconds: float) -> None:
    """Prints medians, and ours as times each peer's."""
    median = statistics.median
    rate = {name: median(pair.ours.busy.rate for pair in pairs) for name, pairs in seen.items()}
    added = {name: median(pair.ours.alone.p50 - pair.bare.alone.p50 for pair in pairs) for name, pairs in seen.items()}
    cpu = {name: median(pair.ours.busy.cpu for pair in pairs) for name, pairs in seen.items()}
    title = f"a plain chat of 1 KB, one CPU each, medians of {rounds} interleaved rounds of {seconds:g} s"
    table = Table(title=f"{title}; load average {os.getloadavg()[0]:.1f}", title_justify="left")
    for heading in ("", "req/s per core", "ours are times", "CPU us a request", "added at p50, us", "ours are of it"):
        table.add_column(heading, justify="left" if not heading else "right")
    bare = [pair.bare for pairs in seen.values() for pair in pairs]
    table.add_row(
        "bare Envoy", f"{median(r.busy.rate for r in bare):,.0f}", "", f"{median(r.busy.cpu for r in bare):.0f}"
    )
    mine, extra = rate["Weighbridge"], max(added["Weighbridge"], 1.0)
    for name in seen:
        table.add_row(
            name,
            f"{rate[name]:,.0f}",
            f"{mine / rate[name]:.2f}",
            f"{cpu[name]:.0f}",
            f"{added[name]:.0f}",
            f"{extra / added[name]:.3f}" if added[name] > 0 else "adds nothing",
        )
    console = make_console()
    console.print(table)
    if "LiteLLM" in seen:
        held = mine >= S4_RATE * rate["LiteLLM"] and extra <= S4_ADDED * added["LiteLLM"]
        what = f"S4: {S4_RATE:g} times LiteLLM's throughput a core, a twentieth of its added latency"
        console.print(f"{'holds ' if held else 'MISSED'}  {what}")


def read(options: argparse.Namespace) -> list[Setting]:
    """The settings that were asked for. FleetError says what is wrong with what was given."""
    settings = []
    if options.paths or options.scenario:
        settings = selection.read(options)
    else:
        options.seconds = options.seconds or SECONDS
        for name, load in SETTINGS.items():
            given = argparse.Namespace(
                **vars(options) | {"load": options.load or [load], "seeds": options.seeds or [1]}
            )
            settings += read_settings([selection.FLEETS / f"{name}.yaml"], given)
    for setting in settings:
        if any(node.joins for node in setting.fleet.servers):
            raise FleetError(f"{setting.name}: a peer is told its nodes when it starts; leave out joins")
    return [replace(setting, fleet=setting.fleet.model_copy(update={"bounds": ()})) for setting in settings]


def main() -> int:
    """0 if what was asked for was measured, 2 where something given is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("balance", "overhead"), help="default: both")
    parser.add_argument("--peer", action="append", metavar="TEXT", help="only those whose name contains it")
    parser.add_argument("--rounds", type=int, default=5, help="of the overhead")
    parser.add_argument("--round-seconds", type=float, default=2.0, metavar="S", help="of a round of the overhead")
    selection.add_flags(parser)
    add_flags(parser, mechanisms=False)
    options = parser.parse_args()
    try:
        settings = read(options) if options.part != "overhead" else []
        journal = Journal(options.journal)
    except (FleetError, JournalError) as error:
        print(error, file=sys.stderr)
        return 2
    peers = asyncio.run(find_peers(options.peer))
    if options.part != "balance":
        require_wrk()
        asyncio.run(compare_overhead(peers, options.rounds, options.round_seconds))
    return uvloop.run(compare_balance(settings, peers, options, journal)) if settings else 0


if __name__ == "__main__":
    sys.exit(main())
