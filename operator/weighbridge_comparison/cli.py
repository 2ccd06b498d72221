"""`weighbridge compare -f FLEET.yaml`: what a fleet would gain, in virtual time, in seconds.

The same requests go through a model of Envoy and of the nodes once for each way to spread them; our profiles are
decided by the product's own law. `make bench-balance` runs the same files on real Envoys.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from weighbridge_comparison.bounds import Result, judge
from weighbridge_comparison.cells import Cell
from weighbridge_comparison.files import FleetError
from weighbridge_comparison.fleet import Mechanism
from weighbridge_comparison.mechanisms import run_cell
from weighbridge_comparison.options import add_flags, list_files, pick_mechanisms, read_settings
from weighbridge_comparison.progress import Progress
from weighbridge_comparison.results import keep
from weighbridge_comparison.setting import Setting, list_omissions
from weighbridge_comparison.tables import make_console, show_cells, show_gain, show_results


def main(argv: list[str]) -> int:
    """0; 1 where a bound of a file is missed; 2 where something given is wrong."""
    options = _parser().parse_args(argv)
    try:
        settings = read_settings(list_files(options.paths), options)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    console = make_console()
    cells: list[Cell] = []
    results: list[Result] = []
    for setting, found in run(settings, pick_mechanisms(options), options.jobs):
        cells += found
        results += judge(setting, found)
        _show(console, setting, found)
    show_results(console, results)
    return keep(settings, cells, options) or int(not all(result.holds for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weighbridge compare",
        description="Say what a fleet would gain: the same requests through each way to spread them, in virtual time. "
        "What a fleet file holds is told in docs/balance.md.",
    )
    parser.add_argument("-f", "--fleet", dest="paths", metavar="PATH", type=Path, action="append", required=True,
                        help="fleet file or directory of them; may be given again")  # fmt: skip
    add_flags(parser)
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a CPU)"
    )
    return parser


def run(
    settings: Sequence[Setting], mechanisms: Sequence[Mechanism], jobs: int
) -> Iterator[tuple[Setting, list[Cell]]]:
    """The cells of each setting, in order, as soon as they are there; several run at a time."""
    wanted = [(s, m, seed) for s in settings for seed in s.fleet.seeds for m in mechanisms]
    progress = Progress(len(wanted))
    # Not forked: what another library left in this process, with a thread that a fork does not have, waits for ever.
    with ProcessPoolExecutor(max(1, min(jobs, len(wanted))), get_context("spawn")) as pool:
        running = deque(pool.submit(run_cell, *one) for one in wanted)
        for setting in settings:
            cells = []
            for _ in range(len(setting.fleet.seeds) * len(mechanisms)):
                cells.append(running.popleft().result())
                progress.advance(f"{cells[-1].title}, {cells[-1].mechanism}")
            yield setting, cells


def _show(console: Console, setting: Setting, cells: Sequence[Cell]) -> None:
    show_cells(console, setting, cells)
    show_gain(console, setting, cells)
    for omission in list_omissions(setting.fleet):
        console.print(f"  virtual time leaves out {omission}; make bench-balance does not")
