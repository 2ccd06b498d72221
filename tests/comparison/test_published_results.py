"""What is published of the choice for each request was measured of the fleets as their files stand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "precise.jsonl"
MECHANISMS = ("precise", "llm", "LEAST_REQUEST", "picker")


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
    told = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    assert told
    assert len(found) == len(told), "what was measured of other fleets is no longer told: take it out, or run it again"


def test_published_results_are_without_the_single_requests() -> None:
    """A megabyte for each hour: whoever wants them runs it."""
    keys = {key for line in RESULTS.read_text().splitlines() for key in json.loads(line)}
    assert not {"at_ms", "wait_ms", "node"} & keys
