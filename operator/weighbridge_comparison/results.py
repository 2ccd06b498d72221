"""What is kept of a run beside its tables: raw results as JSON, and pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from weighbridge_comparison.cells import Cell
from weighbridge_comparison.setting import Setting


def keep(settings: Sequence[Setting], cells: Sequence[Cell], options: argparse.Namespace) -> int:
    """Writes what --json, --plot and --plots ask for. 2 where a package for it is missing, else 0."""
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([describe(cell) for cell in cells]))
    try:
        if options.plot:
            _print_plots(settings, cells)
        if options.plots is not None:
            _write_plots(settings, cells, options.plots)
    except ModuleNotFoundError as error:
        print(f"no picture: the package {error.name} is missing; pip install 'weighbridge[bench]'", file=sys.stderr)
        return 2
    return 0


def _print_plots(settings: Sequence[Setting], cells: Sequence[Cell]) -> None:
    from weighbridge_comparison.terminal import draw_terminal  # noqa: PLC0415  its package is for benches alone

    for setting in settings:
        print(draw_terminal(setting, cells))


def _write_plots(settings: Sequence[Setting], cells: Sequence[Cell], folder: Path) -> None:
    from weighbridge_comparison.plots import draw_plots  # noqa: PLC0415  its package is for benches alone

    for path in draw_plots(settings, cells, folder):
        print(path)


def describe(cell: Cell) -> dict[str, object]:
    """A cell as JSON, its requests in columns of milliseconds and node numbers."""
    told: dict[str, object] = {name: getattr(cell, name) for name in Cell.__slots__ if name != "rows"}
    told["at_ms"] = [round(at * 1000) for at, _, _ in cell.rows]
    told["wait_ms"] = [round(wait * 1000) for _, wait, _ in cell.rows]
    told["node"] = [node for _, _, node in cell.rows]
    return told
