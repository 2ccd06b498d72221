"""Is the balance better? Real Envoys before simulated nodes, ours beside what else there is.

`make bench-balance` runs every file of bench/fleets, each at one load with one seed; what misses a bound is run anew
with the seeds and for as long as its file says, and judged by that. `--whole` runs all of it so: half a day.
Pieces: `--scenario uneven --load 0.8 --seeds 1 --seconds 100`; any fleet of yours: `--fleet FILE`; your own requests:
`--trace FILE`. `--short`, which CI runs in under five minutes, takes four files, one seed and 70 s, whose bounds are
far away, and fails where one is missed three times, each with other seeds.

The ways to spread the requests of a setting run at the same time on equal arrivals, and settings beside each other as
long as the machine carries them; what was too much for it is run once more in parts. `--journal FILE` keeps what was
measured: cut off and begun again, it goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvloop

import selection
from cells import TAIL, Open, run_cell
from journal import Journal, JournalError
from machine import Busy, measure_speed
from mechanisms import Gateway
from plan import MUCH, Group, Plan, Run, list_runs
from selection import MOST, reseed
from weighbridge_comparison.bounds import Result, judge
from weighbridge_comparison.cells import Cell, tell_time
from weighbridge_comparison.files import FleetError
from weighbridge_comparison.options import add_flags, pick_mechanisms
from weighbridge_comparison.progress import Progress, spell_time
from weighbridge_comparison.results import keep
from weighbridge_comparison.setting import Setting
from weighbridge_comparison.tables import LATE, make_console, show_cells, show_gain, show_results
from weighbridge_simulator.traffic import Question

STARTING = 2  # gateways at once
START = 12.0  # seconds that a group takes to start, for the estimate
SLOW = 0.9  # of the usual speed, from which on it is said
AGAIN = 2  # times that the short form runs what missed a bound
SHORT_LEAVES_OUT = "100 minus score"  # what it loses in a minute is decided by chance


@dataclass(frozen=True, slots=True)
class Found:
    """What was run at last, what came out, and which bounds hold."""

    settings: Sequence[Setting]
    cells: Sequence[Cell]
    results: Sequence[Result]

    @property
    def holds(self) -> bool:
        return _hold(self.results)


@dataclass(frozen=True, slots=True)
class How:
    """Requests a second that run at once over all gateways, at most; how many of them an Envoy without any is worth;
    what is asked; and where what was measured is kept."""

    most: float = MOST
    idle: float = 0.0
    question: Question = Question()  # noqa: RUF009  a frozen value
    journal: Journal = field(default_factory=lambda: Journal(None))


async def run_group(
    them: Group, gateways: Mapping[str, Open], progress: Progress, question: Question
) -> tuple[list[Cell], float | None]:
    """Every gateway of these settings, side by side, and how busy the processors were with their requests."""
    ready = asyncio.Barrier(len(them) * len(gateways) + 1)
    starting = asyncio.Semaphore(STARTING)
    what = " and ".join(f"{setting.title} (seed {seed})" for setting, seed in them)
    async with asyncio.TaskGroup() as tasks:
        cells = [
            tasks.create_task(run_cell(setting, name, opens, seed, starting, ready, question))
            for setting, seed in them
            for name, opens in gateways.items()
        ]
        watching = tasks.create_task(_watch(what, them[0][0].fleet.duration, ready, progress))
    gc.unfreeze()
    done = [cell.result() for cell in cells]
    for title in dict.fromkeys(cell.title for cell in done):
        found = ", ".join(_tell_cell(cell) for cell in done if cell.title == title)
        progress.say(f"  {title}, p99: {found}", stays=True)
    return done, watching.result()


def _tell_cell(cell: Cell) -> str:
    overdue = f" ({cell.overdue} choices overdue)" if cell.overdue else ""
    return f"{cell.mechanism} {tell_time(cell.p99)}{overdue}"


async def _watch(what: str, seconds: float, ready: asyncio.Barrier, progress: Progress) -> float | None:
    """Tells of it while requests come; how busy the processors were."""
    progress.say(f"{what}: starting")
    await ready.wait()
    gc.freeze()  # what runs now runs to the end; to look through all of it stops every request for 0.1 s
    began, busy = time.monotonic(), Busy()
    step = 5.0 if sys.stderr.isatty() else 30.0
    while (gone := time.monotonic() - began) < seconds:
        progress.say(f"  {what}: {gone:.0f} of {seconds:.0f} s, load average {os.getloadavg()[0]:.1f}")
        await asyncio.sleep(min(step, seconds - gone))
    return busy.tell()


async def measure(settings: Sequence[Setting], gateways: Mapping[str, Open], how: How) -> list[Cell]:
    """Every setting with every seed through every gateway, but for what the journal holds.

    As much at once as the machine carries; what was too much for it all the same is run again in smaller parts.
    """
    cells, runs = _recall(settings, gateways, how.journal)
    speed = measure_speed()
    plan = Plan(runs, len(gateways), how.most, how.idle, speed**2)  # memory and the kernel slow down more than a loop
    progress = _announce(plan, len(gateways), speed, len(cells))
    while plan:
        them = plan.take()
        ran, busy = await run_group(them, gateways, progress, how.question)
        if busy is not None:
            plan.note_busy(them, busy)
        late = max(cell.late for cell in ran)
        if len(them) > 1 and (late > LATE or (busy or 0.0) > MUCH):
            progress.say(f"  that was too much for this machine: {_tell_much(late, busy)}; once more in parts")
            plan.put_back(them)
        else:
            how.journal.keep(them, ran)
            cells += ran
        progress.expect(len(plan.list_groups()))
        what = " and ".join(f"{setting.title} (seed {seed})" for setting, seed in them)
        progress.advance(f"{what}; {_tell_much(late, busy)}")
    return cells


def _tell_much(late: float, busy: float | None) -> str:
    told = "" if busy is None else f", processors {busy:.0%} busy"
    return f"requests left {late:.2f} s late{told}"


def _recall(
    settings: Sequence[Setting], gateways: Mapping[str, Open], journal: Journal
) -> tuple[list[Cell], list[Run]]:
    """What the journal holds of these, and what it does not."""
    cells, runs = list[Cell](), list[Run]()
    for one in list_runs(settings):
        found = journal.find(one, gateways)
        if found is None:
            runs.append(one)
        else:
            cells += found
    return cells, runs


def _announce(plan: Plan, gateways: int, speed: float, known: int) -> Progress:
    groups = plan.list_groups()
    whole = sum(them[0][0].fleet.duration + TAIL + START for them in groups)
    progress = Progress(len(groups), every=0.0)
    slow = f", for this machine is {1 / speed:.1f} times as slow as usual" if speed < SLOW else ""
    held = f"; {known} results are in the journal" if known else ""
    progress.say(f"{len(groups)} runs of {gateways} gateways, about {spell_time(whole)} in all{slow}{held}")
    return progress


async def run(
    settings: Sequence[Setting], gateways: Mapping[str, Open], how: How, files: Sequence[Setting] = ()
) -> Found:
    """A setting that misses a bound is run anew as it is among `files`, if it is, and judged by that alone."""
    cells = await measure(settings, gateways, how)
    missed = {setting.title: setting for setting in settings if not _hold(judge(setting, cells))}
    whole = {setting.title: setting for setting in files if setting.title in missed}
    if whole:
        _show(list(missed.values()), cells)
        make_console().print("\nwhat misses, with the seeds and the time that its file says:")
        again = {(setting.name, setting.load) for setting in whole.values()}
        cells = [cell for cell in cells if (cell.setting, cell.load) not in again]
        cells += await measure(list(whole.values()), gateways, how)
    last = [whole.get(setting.title, setting) for setting in settings]
    return Found(last, cells, _show(last, cells))


async def run_short(settings: Sequence[Setting], gateways: Mapping[str, Open], how: How, more: int) -> Found:
    """A setting that misses a bound is run `more` times anew, with another seed; the last counts."""
    found = await run(settings, gateways, how)
    missed = {result.setting for result in found.results if not result.holds}
    if not missed or not more:
        return found
    anew = [_seed_anew(setting) for setting in settings if setting.title in missed]
    last = await run_short(anew, gateways, how, more - 1)
    held = [result for result in found.results if result.setting not in missed]
    return Found(settings, [*found.cells, *last.cells], [*held, *last.results])


def carry_out(work: Coroutine[Any, Any, Found]) -> Found:
    """Runs it. Told to end, it ends what it started: Envoys, nodes and pickers would else stay.

    An exception raised wherever Python is at that moment would end the loop, and with it others' ending.
    """

    async def run() -> Found:
        loop, whole = asyncio.get_running_loop(), asyncio.current_task()
        assert whole is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, whole.cancel)
        return await work

    try:
        return uvloop.run(run())
    except asyncio.CancelledError:
        sys.exit("told to end")


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


def _seed_anew(setting: Setting) -> Setting:
    return reseed(setting, [max(setting.fleet.seeds) + 1])


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
        settings, how = reads(options), How(journal=Journal(options.journal))
    except (FleetError, JournalError) as error:
        print(error, file=sys.stderr)
        return 2
    gateways: dict[str, Open] = {
        name: partial(Gateway, name)
        for name in pick_mechanisms(options)
        if not (options.short and name == SHORT_LEAVES_OUT)
    }
    if options.short:
        found = carry_out(run_short(settings, gateways, how, AGAIN))
    else:
        found = carry_out(run(settings, gateways, how, () if options.whole else selection.read_missed(options)))
    return keep(found.settings, found.cells, options) or int(not found.holds)


if __name__ == "__main__":
    sys.exit(main())
