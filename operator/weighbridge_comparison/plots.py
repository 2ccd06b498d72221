"""A picture for each setting: waits over time, and the share of each node by mechanism. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from weighbridge_comparison.cells import Cell, list_mechanisms, middle, tell_time
from weighbridge_comparison.fleet import EVERY, OURS
from weighbridge_comparison.setting import Setting
from weighbridge_comparison.slices import slice_waits

_COLOURS: dict[str, str] = dict(
    zip(EVERY, ("#1b7837", "#74c476", "#999999", "#3182bd", "#cb181d", "#fd8d3c", "#6a51a3", "#8c510a"), strict=True)
)


def draw_plots(settings: Sequence[Setting], cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Writes FLEET-LOAD.png for each setting; the paths."""
    mpl.rcParams["svg.hashsalt"] = "weighbridge"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for setting in settings:
        own = [cell for cell in cells if (cell.setting, cell.load) == (setting.name, setting.load)]
        shown = {m: middle(cell for cell in own if cell.mechanism == m) for m in list_mechanisms(own)}
        load = "" if setting.load is None else f"-{setting.load:g}".replace(".", "")
        path = folder / f"{setting.name}{load}.png"
        _draw(setting, shown).savefig(path, dpi=110)
        drawn.append(path)
    return drawn


def _draw(setting: Setting, cells: dict[Any, Cell]) -> Figure:
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    waits, shares = figure.subplots(1, 2, width_ratios=[3, 2])
    figure.suptitle(f"{setting.title}, {setting.rate:.0f} requests a second: {setting.fleet.description}", fontsize=9)
    for mechanism, cell in cells.items():
        at, slow = slice_waits(cell, setting.fleet.duration)
        label = f"{mechanism}: {tell_time(cell.p99)} s"
        waits.plot(at, slow, label=label, color=_COLOURS.get(mechanism), linewidth=2.2 if mechanism in OURS else 1.2)
    for event in setting.fleet.events:
        waits.axvspan(event.at, min(event.until or setting.fleet.duration, setting.fleet.duration), color="#00000010")
    waits.axvline(setting.fleet.count_from, color="#00000040", linewidth=0.8, linestyle=":")
    waits.set_yscale("log")
    waits.set_xlabel("seconds")
    waits.set_ylabel("p99 time to first token, s")
    waits.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), title="p99 of all that count")
    waits.grid(alpha=0.25)
    _draw_shares(shares, cells)
    return figure


def _draw_shares(axes: Any, cells: dict[Any, Cell]) -> None:
    names = list(reversed(cells))
    left = [0.0] * len(names)
    for number, node in enumerate(next(iter(cells.values())).shares):
        widths = [cells[name].shares[node] * 100 for name in names]
        axes.barh(names, widths, left=left, label=node, color=f"C{number % 10}", edgecolor="white", linewidth=0.5)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.set_xlabel("share of each node, %")
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=6, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
