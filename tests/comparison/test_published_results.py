"""What is published of the choice for each request was measured of the fleets as their files stand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "precise.jsonl"
MECHANISMS = ("precise", "llm", "LEAST_REQUEST", "picker")
#: What the rows of docs/balance.md are called, in their order, and the fleets' files.
ROWS = (
    *("alike", "one-slow", "others", "uneven", "uneven-slow", "uneven-others", "unequal-kv", "unequal-kv-prefill"),
    *("several", "few-large", "light", "light-alike", "bursts", "sessions", "no-keys", "one-key", "own-keys"),
    *("one-key-mixed", "lie-idle-small", "lie-idle-large", "lie-half-large", "lie-nan", "lie-all-nan", "lie-frozen"),
    *("lie-old", "lie-others"),
)
MEDIAN = "†"  # marks a cell that is the middle of the seeds of the file, because the first missed a bound
SHORT = ("alike", "uneven", "others", "unequal-kv-prefill", "lie-idle-small", "sessions", "no-keys")  # the README's
WAYS = ("1 Envoy", "2 Envoys", "4 Envoys")


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    names = ("trace", "speed", "load", "seeds", "seconds", "scenario")
    paths = [ROOT / "bench" / "fleets" / "precise"]
    return argparse.Namespace(**dict.fromkeys(names), paths=paths, envoys=[1, 2, 4])


def test_every_published_result_is_of_a_fleet_as_its_file_stands(options: argparse.Namespace) -> None:
    import selection
    from journal import Journal
    from plan import list_runs

    journal, found = Journal(RESULTS), set[tuple[Any, ...]]()
    for run in list_runs([*selection.read_brief(options), *selection.read(options)]):
        for cell in journal.find(run, MECHANISMS) or ():
            found.add((cell.title, cell.mechanism, cell.seed, cell.requests))
    told = _read_cells()
    assert told
    assert len(found) == len(told), "what was measured of other fleets is no longer told: take it out, or run it again"


def test_published_results_are_without_the_single_requests() -> None:
    """A megabyte for each hour: whoever wants them runs it."""
    keys = {key for cell in _read_cells() for key in cell}
    assert not {"at_ms", "wait_ms", "node"} & keys


def test_the_table_tells_what_is_published() -> None:
    """A cell is `precise; picker; ours, llm`, of the first run of its setting, or with a mark of all its seeds."""
    first, middle = _read_told(), _read_medians()
    rows = _read_rows("docs/balance.md", "| fleet, load | one Envoy: precise; picker;")
    for name, row in zip(ROWS, rows, strict=True):
        for envoys, cell in zip(WAYS, row[:3], strict=True):
            told = middle if cell.endswith(MEDIAN) else first
            ours = "; ".join(told[f"{name}, {envoys}", each] for each in ("precise", "picker", "llm"))
            assert cell.removesuffix(f" {MEDIAN}") == ours, (name, envoys)
        told = middle if row[1].endswith(MEDIAN) else first
        assert row[3] == told[f"{name}, 2 Envoys", "LEAST_REQUEST"], name


def test_the_readme_tells_what_is_published() -> None:
    told, rows = _read_told(), _read_rows("README.md", "| nodes, load | precise | picker |")
    for name, row in zip(SHORT, rows, strict=True):
        for mechanism, cell in zip(("precise", "picker", "llm"), row, strict=True):
            assert cell == ", ".join(told[f"{name}, {envoys}", mechanism] for envoys in WAYS), (name, mechanism)


def _read_told() -> dict[tuple[str, str], str]:
    """p99 in seconds of the first run, by setting without its load and by mechanism."""
    told: dict[tuple[str, str], str] = {}
    for cell in _read_cells():
        told.setdefault((_name(cell), cell["mechanism"]), _tell(cell["p99"]))
    return told


def _read_medians() -> dict[tuple[str, str], str]:
    """The same in the middle of the seeds, where there are several of one duration."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for cell in _read_cells():
        found.setdefault((_name(cell), cell["mechanism"], cell["fleet"]), []).append(cell["p99"])
    return {(name, each): _tell(median(all_of)) for (name, each, _), all_of in found.items() if len(all_of) > 1}


def _read_cells() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def _name(cell: dict[str, Any]) -> str:
    return str(cell["setting"]).partition(", load")[0]


def _read_rows(file: str, head: str) -> list[list[str]]:
    """What stands in the table under this head, without the rows' titles."""
    _, found, table = (ROOT / file).read_text().partition(head)
    assert found
    return [line.strip("| ").split(" | ")[1:] for line in table.partition("\n\n")[0].splitlines()[2:]]


def _tell(p99: float) -> str:
    return ">60" if p99 >= 60 else f"{p99:.1f}" if p99 >= 9.95 else f"{p99:.2f}"
