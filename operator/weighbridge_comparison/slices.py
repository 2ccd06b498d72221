"""A run cut into equal slices of time, for pictures."""

from __future__ import annotations

from weighbridge_comparison.cells import Cell
from weighbridge_simulator.records import percentile

SLICES = 40


def slice_waits(cell: Cell, duration: float) -> tuple[list[float], list[float]]:
    """Middles of equal slices of time, and the p99 of what came in each; slices without requests are left out."""
    width = duration / SLICES
    slices: list[list[float]] = [[] for _ in range(SLICES)]
    for at, wait, _ in cell.rows:
        slices[min(SLICES - 1, int(at / width))].append(wait)
    found = [((i + 0.5) * width, percentile(waits, 0.99)) for i, waits in enumerate(slices) if waits]
    return [at for at, _ in found], [max(wait, 1e-3) for _, wait in found]
