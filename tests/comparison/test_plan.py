"""What a long benchmark runs side by side, and what it does not again."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from weighbridge_comparison.setting import Setting

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[Setting]:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import selection

    names = ("paths", "trace", "speed", "load", "seconds")
    return selection.read(
        argparse.Namespace(**dict.fromkeys(names), scenario=["uniform"], seeds=[1, 2, 3, 4], envoys=[1])
    )[:1]


def test_what_was_too_much_together_is_not_run_together_again_when_others_were_light(settings: list[Setting]) -> None:
    from plan import Plan, list_runs

    runs = list_runs(settings)
    plan = Plan(runs, 1, most=3.5 * settings[0].busiest)
    three = plan.take()
    assert three == runs[:3]
    plan.put_back(three)
    seen = []
    while plan:
        them = plan.take()
        plan.note_busy(them, 0.05)
        seen.append(them)
    assert sorted(seed for them in seen for _, seed in them) == [1, 2, 3, 4]
    assert all(len([run for run in them if run in three]) < 3 for them in seen)
    assert max(len(them) for them in seen) > 1
