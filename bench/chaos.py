"""The fault matrix: each fault under 200 requests a second, what it cost, and whether what is promised of it held.

    make chaos                                                           # all, some fifteen minutes, as a table
    PYTHONPATH=tests .venv/bin/python bench/chaos.py --only F5 --only F8 # some

Faults of a gateway on one machine (bench/faults.py, bench/dataplane_faults.py) and of one in a cluster with a real API
server (bench/cluster_faults.py), one after the other: each has the machine for itself. Exit code 1 where a promise is
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import cluster_faults
import dataplane_faults
import faults
import malformed
from support.apiserver import ApiServer
from support.assets import NoAssetsError, bring_assets
from support.losses import Figure
from support.probes import SLOW, crawl, find_misled, gateway, list_probes
from support.prometheus import BINARY
from support.rawhttp import exchange

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault. `promise` in words; `held` says of a figure whether it was. Without `alone` it needs an API server."""

    number: str
    promise: str
    held: Callable[[Figure], bool]
    alone: Callable[[], Awaitable[Figure]] | None = None
    cluster: Callable[[ApiServer, float], Awaitable[Figure]] | None = None


def lost(figure: Figure, most: int = 0) -> bool:
    """Whether no more than so many were lost."""
    return figure.lost <= most


def lost_nothing_and(within: dict[str, float], figure: Figure) -> bool:
    """Whether nothing was lost, and each of these times was kept (seconds; of several the longest)."""
    return lost(figure) and all(_longest(figure.told[name]) <= limit for name, limit in within.items())


def cost_no_more_than_a_wait(figure: Figure) -> bool:
    """Of a data plane: nothing lost or cut, no message time-out after 5 s, and else as the weights alone."""
    told = figure.told
    kept = told["p99_s"] <= 1.2 * told["p99_weights_s"] + 0.02
    return lost(figure) and not told["streams_cut"] and not told["delayed_after_5s"] and kept


async def misleading() -> Figure:
    """F10: probes, and clients that never end their request; "lost" is what arrived elsewhere or otherwise."""
    probes = list_probes()
    async with gateway() as (stack, good, other):
        await asyncio.gather(*(exchange(stack.port, sent) for sent in probes.values()))
        seconds = await crawl(stack)
        told = {"slow_clients": SLOW, "slowest_s": round(max(seconds), 3), "beside_them": len(seconds)}
        return Figure("spoofed, smuggled, slow", len(probes), len(find_misled(good.heard, other.heard)), told)


def _longest(told: Any) -> float:
    return float(max(told) if isinstance(told, list) else told)


_NONE = "none lost"
_BACK = "none lost; a change takes effect within 2 s of the return"
_RETURNED = partial(lost_nothing_and, {"effect_s": 2.0})
_WAIT = "none lost or cut; no wait of 20 ms after 5 s; else as the weights"
_FIVE = "at most 5 of 2,000 lost"
TRIALS = (
    Trial("F1", _BACK, _RETURNED, alone=faults.killed_operator),
    Trial("F1", _BACK, _RETURNED, cluster=cluster_faults.killed_operators),
    Trial("F1", _BACK, _RETURNED, cluster=cluster_faults.killed_api_server),
    Trial("F1", _NONE, lost, cluster=cluster_faults.killed_prometheus),
    Trial("F1", "none lost; its Envoy is with the other within 1 s",
          partial(lost_nothing_and, {"reconnected_s": 1.0}), cluster=cluster_faults.killed_replica),
    Trial("F2", "none lost, nothing deleted", lambda figure: lost(figure) and figure.told["fewest_nodes"] == 3,
          cluster=cluster_faults.restarted_operators),
    *(Trial("F3", _WAIT, cost_no_more_than_a_wait, alone=fault) for fault in dataplane_faults.FAULTS.values()),
    Trial("F5", _NONE, lost, alone=faults.killed_node),
    Trial("F5", _FIVE, partial(lost, most=5), alone=faults.frozen_node),
    Trial("F5", _FIVE, partial(lost, most=5), alone=partial(faults.frozen_node, zero=False)),
    # Cut are those whose head it had sent: nobody can begin them anew.
    Trial("F5", _FIVE, partial(lost, most=5), alone=faults.frozen_node_streams),
    Trial("F5", _NONE, lost, alone=partial(faults.fast_failing, 503)),
    Trial("F6", "the client's library raises within 2 s", partial(lost_nothing_and, {"slowest_s": 2.0}),
          alone=faults.dying_stream),
    Trial("F7", "none cut", lost, alone=faults.changes),
    Trial("F8", "told within 5 s, no other object written",
          lambda figure: lost_nothing_and({"no_such_host_s": 5, "no_such_secret_s": 5, "others_written": 0}, figure),
          cluster=cluster_faults.invalid_object),
    Trial("F9", "no 5xx, no crash, each under 50 ms, memory flat", malformed.held, alone=malformed.measure),
    Trial("F10", "none changes model or node, nobody waits", partial(lost_nothing_and, {"slowest_s": 2.0}),
          alone=misleading),
)  # fmt: skip


async def run(trials: list[Trial], server: ApiServer | None, seconds: float) -> list[tuple[Trial, Figure | None]]:
    """Every trial in one loop: an API server that one fault starts again would end with its thread."""
    found: list[tuple[Trial, Figure | None]] = []
    for number, trial in enumerate(trials, start=1):
        print(
            f"\r\x1b[K{number} of {len(trials)}: {trial.number}, {trial.promise}", end="", file=sys.stderr, flush=True
        )
        found.append((trial, await _try(trial, server, seconds)))
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return found


async def _try(trial: Trial, server: ApiServer | None, seconds: float) -> Figure | None:
    if trial.alone is not None:
        return await trial.alone()
    assert trial.cluster is not None
    if server is None or (BINARY is None and trial.cluster is cluster_faults.killed_prometheus):
        return None
    return await trial.cluster(server, seconds)


def show(found: list[tuple[Trial, Figure | None]]) -> bool:
    """Prints the table; whether every promise held."""
    table = Table(title="F1 to F8: 200 requests a second", title_justify="left")
    for heading in ("", "fault", "promised", "lost", "", "measured"):
        table.add_column(heading)
    for trial, figure in found:
        if figure is None:
            table.add_row(trial.number, "", trial.promise, "", "not run", "no API server, or no Prometheus, is here")
            continue
        told = " ".join(f"{name}={value}" for name, value in figure.told.items() if name != "weights")
        held = "held" if trial.held(figure) else "MISSED"
        table.add_row(trial.number, figure.fault, trial.promise, f"{figure.lost} of {figure.asked:,}", held, told)
    console.print(table)
    return all(figure is None or trial.held(figure) for trial, figure in found)


def main() -> int:
    """1 where a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="F5", choices=sorted({trial.number for trial in TRIALS}))
    parser.add_argument("--seconds", type=float, default=20.0, help="how long something in the cluster is away")
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw results")
    given = parser.parse_args()
    trials = [trial for trial in TRIALS if given.only is None or trial.number in given.only]
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # of the proxy, whose callers die by intent
    with ExitStack() as running:
        server = None
        if any(trial.cluster for trial in trials):
            try:
                assets = bring_assets(lambda line: print(line, file=sys.stderr))
                server = running.enter_context(ApiServer(assets))
            except NoAssetsError as error:
                print(error, file=sys.stderr)
        found = asyncio.run(run(trials, server, given.seconds))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(figure) for _, figure in found if figure is not None], indent=1))
    return 0 if show(found) else 1


if __name__ == "__main__":
    sys.exit(main())
