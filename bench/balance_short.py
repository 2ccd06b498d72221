"""Is the balance better? Real Envoys before simulated nodes, ours beside what else there is, in under five minutes.

`make bench-balance-short` runs it. A scenario's mechanisms run at the same time on equal arrivals, two scenarios at
once. The bounds are those of the balance promises that a short run can hold: cells far from their bounds. A scenario
that misses one is run once more before it fails. By hand, longer: --seconds 300 --seeds 1 2 3 --scenario uneven.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bounds import Result, judge
from cells import SCENARIOS, TAIL, Cell, Scenario, run_cell
from mechanisms import MECHANISMS

AT_ONCE = 2  # scenarios
STARTING = 2  # gateways at once
console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)


async def run_scenarios(scenarios: Sequence[Scenario], seed: int, seconds: float) -> list[Cell]:
    """All mechanisms of these scenarios, side by side."""
    ready = asyncio.Barrier(len(scenarios) * len(MECHANISMS) + 1)
    starting = asyncio.Semaphore(STARTING)
    async with asyncio.TaskGroup() as group:
        cells = [
            group.create_task(run_cell(scenario, mechanism, seed, seconds, starting, ready))
            for scenario in scenarios
            for mechanism in MECHANISMS
        ]
        clock = group.create_task(_progress(" and ".join(s.name for s in scenarios), seed, seconds + TAIL, ready))
    clock.cancel()
    return [cell.result() for cell in cells]


async def _progress(what: str, seed: int, seconds: float, ready: asyncio.Barrier) -> None:
    print(f"{what} (seed {seed}): starting", file=sys.stderr, flush=True)
    await ready.wait()
    began = time.monotonic()
    step = 5.0 if sys.stderr.isatty() else 20.0
    while (gone := time.monotonic() - began) < seconds:
        print(f"  {gone:4.0f} of {seconds:.0f} s, load average {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        await asyncio.sleep(min(step, seconds - gone))


def show(cells: Sequence[Cell]) -> None:
    """Prints one table for each scenario: medians over its seeds."""
    for scenario in dict.fromkeys(cell.scenario for cell in cells):
        seeds = len({cell.seed for cell in cells if cell.scenario == scenario})
        rooms = ":".join(f"{room:g}" for room in SCENARIOS[scenario].rooms)
        table = Table(title=f"{scenario}, load {SCENARIOS[scenario].load:g}, median of {seeds}", title_justify="left")
        table.add_column("")
        for heading in ("requests", "p50 s", "p99 s", "answered", "pushes", f"answers, % ({rooms})"):
            table.add_column(heading, justify="right")
        for mechanism in MECHANISMS:
            own = [c for c in cells if (c.scenario, c.mechanism) == (scenario, mechanism)]
            middle = sorted(own, key=lambda c: c.p99)[len(own) // 2]
            table.add_row(
                mechanism,
                f"{middle.requests}",
                f"{statistics.median(c.p50 for c in own):.2f}",
                f"{statistics.median(c.p99 for c in own):.2f}",
                f"{min(c.answered for c in own):.2%}",
                f"{middle.pushes}",
                " ".join(f"{share * 100:4.1f}" for share in middle.shares.values()),
            )
        console.print(table)


def show_results(results: Sequence[Result]) -> None:
    """Prints what is promised and what came out."""
    for result in results:
        console.print(f"{'holds ' if result.holds else 'MISSED'}  {result.scenario}: {result.what} ({result.found})")


async def measure(names: Sequence[str], seeds: Sequence[int], seconds: float) -> list[Cell]:
    """Every scenario with every seed, seeds outermost."""
    cells: list[Cell] = []
    for seed in seeds:
        for first in range(0, len(names), AT_ONCE):
            cells += await run_scenarios([SCENARIOS[n] for n in names[first : first + AT_ONCE]], seed, seconds)
    return cells


async def run(names: Sequence[str], seeds: Sequence[int], seconds: float, report: Path | None) -> bool:
    """The whole benchmark; whether every bound holds."""
    cells = await measure(names, seeds, seconds)
    show(cells)
    results = judge(cells)
    missed = list(dict.fromkeys(result.scenario for result in results if not result.holds))
    if missed:
        show_results([result for result in results if not result.holds])
        console.print("\nonce more:")
        again = await measure(missed, [seed + 100 for seed in seeds], seconds)
        show(again)
        results = [r for r in results if r.scenario not in missed] + judge(again)
        cells += again
    show_results(results)
    if report is not None:
        await asyncio.to_thread(report.write_text, json.dumps([asdict(cell) for cell in cells], indent=1))
    return all(result.holds for result in results)


def main() -> int:
    """0 if every bound holds, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenario", action="append", metavar="TEXT", help="only those whose name contains it")
    parser.add_argument("--seconds", type=float, default=70.0, help="of arrivals")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw results")
    given = parser.parse_args()
    names = [n for n in SCENARIOS if given.scenario is None or any(text in n for text in given.scenario)]
    if not names:
        parser.error(f"there is no such scenario; there are: {'; '.join(SCENARIOS)}")
    return 0 if uvloop.run(run(names, given.seeds, given.seconds, given.json)) else 1


if __name__ == "__main__":
    sys.exit(main())
