"""What the balance promises say of the cells of a run, and the tolerance that keeps chance from failing it (B0).

With three seeds or more a bound is missed when every seed misses it, or when the median of the seeds' ratios does by
more than 5 %. With fewer there is no such median, and where ours and the other's are alike, noise gets room.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cells import Cell

#: Two p99 of 1,700 requests each differ by this, by chance alone.
NOISE = 1.4
SEEDS, TOLERANCE = 3, 1.05
LLM, CLASSIC, LEAST, LOWEST = "ours, llm", "ours, classic", "LEAST_REQUEST", "lowest score"


@dataclass(frozen=True, slots=True)
class Result:
    """One bound, and what was found."""

    scenario: str
    what: str
    found: str
    holds: bool


def judge(cells: Sequence[Cell]) -> list[Result]:
    """Every bound of the scenarios that were run, over the medians of their seeds."""
    results: list[Result] = []
    for scenario in dict.fromkeys(cell.scenario for cell in cells):
        by_name: dict[str, list[Cell]] = {}
        for cell in cells:
            if cell.scenario == scenario:
                by_name.setdefault(cell.mechanism, []).append(cell)
        results += _judge(scenario, by_name)
    return results


def _judge(scenario: str, cells: Mapping[str, list[Cell]]) -> Iterator[Result]:
    def bound(ours: str, factor: float, other: str, why: str, noise: float = 1.0) -> Result:
        mine, theirs = _p99(cells[ours]), _p99(cells[other])
        what = f"{why}: p99 of {ours} at most {factor:g} of {other}'s"
        ratios = _ratios(cells[ours], cells[other])
        found = f"{mine:.2f} against {theirs:.2f} s; by seed {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
        if len(ratios) < SEEDS:
            return Result(scenario, what, found, statistics.median(ratios) <= factor * noise)
        missed = min(ratios) > factor or statistics.median(ratios) > factor * TOLERANCE
        return Result(scenario, what, found, not missed)

    match scenario:
        case "uneven 4:4:2:2:1:1":
            yield bound(LLM, 0.1, LEAST, "B2")
            yield bound(CLASSIC, 0.5, LEAST, "half of what llm gains")
        case "others' load on one node":
            yield bound(LLM, 0.6, LEAST, "B2")
            yield bound(CLASSIC, 0.8, LEAST, "half of what llm gains")
        case "uniform":
            yield bound(LLM, 1.05, LEAST, "B1", NOISE)
            yield bound(CLASSIC, 1.05, LEAST, "B1", NOISE)
            yield _unpushed(scenario, LLM, cells[LLM])
            yield _few_pushes(scenario, CLASSIC, cells[CLASSIC])
        case "uneven, one says idle":
            yield bound(LLM, 1.05, LEAST, "B3")
            yield bound(CLASSIC, 1.05, LEAST, "B3")
    for ours in (LLM, CLASSIC):
        yield bound(ours, 1.0, LOWEST, "B4")
        answered = min(cell.answered for cell in cells[ours])
        yield Result(scenario, f"{ours} answers every request", f"{answered:.2%}", answered == 1.0)


def _unpushed(scenario: str, name: str, cells: Iterable[Cell]) -> Result:
    pushes = max(cell.pushes for cell in cells)
    equal = all(len(set(cell.weights.values())) == 1 for cell in cells)
    found = f"{pushes} pushes, weights {'equal' if equal else 'unequal'}"
    return Result(scenario, f"B1: {name} pushes nothing, all weights equal", found, pushes == 0 and equal)


def _few_pushes(scenario: str, name: str, cells: Iterable[Cell]) -> Result:
    # Promised are none. The score of one of equal nodes strays for seconds, and in some runs that is believed.
    pushes = max(cell.pushes for cell in cells)
    return Result(scenario, f"B3: {name} pushes at most 4 times (B1 promises 0)", f"{pushes} pushes", pushes <= 4)


def _ratios(ours: Iterable[Cell], other: Iterable[Cell]) -> list[float]:
    theirs = {cell.seed: cell.p99 for cell in other}
    return sorted(cell.p99 / theirs[cell.seed] for cell in ours)


def _p99(cells: Iterable[Cell]) -> float:
    return statistics.median(cell.p99 for cell in cells)
