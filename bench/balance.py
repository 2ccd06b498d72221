"""Is the balance better? Real Envoys before simulated nodes, ours beside what else there is.

`make bench-balance` runs every file of bench/fleets, each at one load with one seed; what misses a bound is measured
with two more, and judged by all three. `--whole` runs every load and seed for as long as the files say: half a day.
Pieces: `--scenario uneven --load 0.8 --seeds 1 --seconds 100`; any fleet of yours: `--fleet FILE`; your own requests:
`--trace FILE`. `--short`, which CI runs in under five minutes, takes four files, one seed and 70 s, whose bounds are
far away, and fails where one is missed three times, each with other seeds.

The ways to spread the requests of a setting run at the same time on equal arrivals, and settings beside each other as
long as two cores carry them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial

import uvloop

import selection
from cells import TAIL, Open, run_cell
from mechanisms import Gateway
from selection import MOST, Group, group, reseed
from weighbridge_comparison.bounds import Result, judge
from weighbridge_comparison.cells import Cell
from weighbridge_comparison.files import FleetError
from weighbridge_comparison.options import add_flags, pick_mechanisms
from weighbridge_comparison.progress import Progress, spell_time
from weighbridge_comparison.results import keep
from weighbridge_comparison.setting import Setting
from weighbridge_comparison.tables import make_console, show_cells, show_gain, show_results
from weighbridge_simulator.traffic import Question

STARTING = 2  # gateways at once
START = 12.0  # seconds that a group takes to start, for the estimate
AGAIN = 2  # seeds more for what missed a bound
SHORT_LEAVES_OUT = "100 minus score"  # what it loses in a minute is decided by chance

Found = tuple[list[Cell], list[Result]]


async def run_group(them: Group, gateways: Mapping[str, Open], progress: Progress, question: Question) -> list[Cell]:
    """Every gateway of these settings, side by side."""
    ready = asyncio.Barrier(len(them) * len(gateways) + 1)
    starting = asyncio.Semaphore(STARTING)
    what = " and ".join(f"{setting.title} (seed {seed})" for setting, seed in them)
    async with asyncio.TaskGroup() as tasks:
        cells = [
            tasks.create_task(run_cell(setting, name, opens, seed, starting, ready, question))
            for setting, seed in them
            for name, opens in gateways.items()
        ]
        clock = tasks.create_task(_tell(what, them[0][0].fleet.duration + TAIL, ready, progress))
    clock.cancel()
    progress.advance(what)
    return [cell.result() for cell in cells]


async def _tell(what: str, seconds: float, ready: asyncio.Barrier, progress: Progress) -> None:
    progress.say(f"{what}: starting")
    await ready.wait()
    began = time.monotonic()
    step = 5.0 if sys.stderr.isatty() else 30.0
    while (gone := time.monotonic() - began) < seconds:
        progress.say(f"  {what}: {gone:.0f} of {seconds:.0f} s, load average {os.getloadavg()[0]:.1f}")
        await asyncio.sleep(min(step, seconds - gone))


async def measure(
    settings: Sequence[Setting],
    gateways: Mapping[str, Open],
    question: Question = Question(),  # noqa: B008  a frozen value
    most: float = MOST,
) -> list[Cell]:
    """Every setting with every seed through every gateway, several at once up to so many requests a second."""
    groups = group(settings, len(gateways), most)
    whole = sum(them[0][0].fleet.duration + TAIL + START for them in groups)
    progress = Progress(len(groups), every=0.0)
    progress.say(f"{len(groups)} runs of {len(gateways)} gateways, about {spell_time(whole)} in all")
    cells: list[Cell] = []
    for them in groups:
        cells += await run_group(them, gateways, progress, question)
    return cells


async def run(settings: Sequence[Setting], gateways: Mapping[str, Open], more: int = 0, most: float = MOST) -> Found:
    """Cells and bounds. A setting that misses one is run with so many seeds more, and judged by all of them."""
    cells = await measure(settings, gateways, most=most)
    missed = [setting for setting in settings if not _hold(judge(setting, cells))]
    if missed and more:
        _show(missed, cells)
        make_console().print("\nwith more seeds:")
        cells += await measure([_seed_anew(setting, more) for setting in missed], gateways, most=most)
    return cells, _show(settings, cells)


async def run_short(settings: Sequence[Setting], gateways: Mapping[str, Open], more: int) -> Found:
    """A setting that misses a bound is run `more` times anew, with another seed; the last counts."""
    cells, results = await run(settings, gateways)
    missed = {result.setting for result in results if not result.holds}
    if not missed or not more:
        return cells, results
    anew = [_seed_anew(setting, 1) for setting in settings if setting.title in missed]
    fresh, found = await run_short(anew, gateways, more - 1)
    return cells + fresh, [result for result in results if result.setting not in missed] + found


def _show(settings: Sequence[Setting], cells: Sequence[Cell]) -> list[Result]:
    console = make_console()
    for setting in settings:
        show_cells(console, setting, cells)
        show_gain(console, setting, cells)
    results = [result for setting in settings for result in judge(setting, cells)]
    show_results(console, results)
    return results


def _hold(results: Sequence[Result]) -> bool:
    return all(result.holds for result in results)


def _seed_anew(setting: Setting, more: int) -> Setting:
    last = max(setting.fleet.seeds)
    return reseed(setting, range(last + 1, last + 1 + more))


def main() -> int:
    """0 if every bound holds, 1 if not, 2 where something given is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    selection.add_flags(parser)
    parser.add_argument("--short", action="store_true", help="four files, a minute each")
    parser.add_argument("--whole", action="store_true", help="every load and seed of the files; half a day")
    add_flags(parser)
    options = parser.parse_args()
    if options.short and options.whole:
        parser.error("--short and --whole: give one of them")
    reads = selection.read_short if options.short else selection.read if options.whole else selection.read_brief
    try:
        settings = reads(options)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    gateways: dict[str, Open] = {
        name: partial(Gateway, name)
        for name in pick_mechanisms(options)
        if not (options.short and name == SHORT_LEAVES_OUT)
    }
    more = 0 if options.whole or (options.seeds is not None and not options.short) else AGAIN
    runs = run_short if options.short else run
    cells, results = uvloop.run(runs(settings, gateways, more))
    return keep(settings, cells, options) or int(not _hold(results))


if __name__ == "__main__":
    sys.exit(main())
