"""The choice per request keeps what is promised of it (B6), on cells that are far from their bounds.

All of them, three seeds, one, two and four Envoys: `make bench-precise-simulated`, half an hour.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from weighbridge_api.console import main

FLEETS = Path(__file__).parents[2] / "bench" / "fleets" / "precise"
CELLS = (
    ("uneven", 0.8, 1),
    ("uneven", 0.85, 2),
    ("uneven-slow", 0.8, 2),
    ("unequal-kv", 0.8, 2),
    ("unequal-kv-prefill", 0.7, 1),
    ("unequal-kv-prefill", 0.8, 2),
    ("lie-half-large", 0.75, 2),
    ("lie-idle-small", 0.75, 4),
    ("lie-idle-large", 0.75, 2),
    ("lie-frozen", 0.75, 2),
    ("lie-nan", 0.75, 2),
)


@pytest.mark.parametrize(("fleet", "load", "envoys"), CELLS)
def test_what_is_promised_holds(fleet: str, load: float, envoys: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(FLEETS / f"{fleet}.yaml")
    short = ["--load", str(load), "--envoys", str(envoys), "--seeds", "1", "--seconds", "150", "--jobs", "1"]
    code = main(["compare", "-f", path, *short, "--mechanism", "llm", "precise", "picker"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "B6" in told


def test_with_four_envoys_that_tell_each_other_what_they_sent_others_load_costs_no_more_than_with_one_picker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fleet = str(FLEETS / "others.yaml")
    code = main(["compare", "-f", fleet, "--load", "0.85", "--envoys", "4", "--mechanism", "precise", "picker"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "p99 of precise at most 1 of picker's" in " ".join(told.split())
