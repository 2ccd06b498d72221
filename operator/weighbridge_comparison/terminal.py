"""The waits of a setting over time, drawn with characters. Needs plotext."""

from __future__ import annotations

from collections.abc import Sequence

import plotext

from weighbridge_comparison.cells import Cell, list_mechanisms, middle
from weighbridge_comparison.setting import Setting
from weighbridge_comparison.slices import slice_waits


def draw_terminal(setting: Setting, cells: Sequence[Cell]) -> str:
    """p99 of the time to the first token by time, a line for each mechanism."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(110, 18)
    plotext.yscale("log")
    own = [cell for cell in cells if (cell.setting, cell.load) == (setting.name, setting.load)]
    for mechanism in list_mechanisms(own):
        shown = middle(cell for cell in own if cell.mechanism == mechanism)
        plotext.plot(*slice_waits(shown, setting.fleet.duration), label=mechanism)
    plotext.title(f"{setting.title}: p99 time to first token, s, over time")
    return str(plotext.build())
