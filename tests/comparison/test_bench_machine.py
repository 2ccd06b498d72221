"""What a benchmark does where the machine is slow, and when it is told to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from weighbridge_comparison.fleet import Fleet
from weighbridge_comparison.setting import Setting

ROOT = Path(__file__).parents[2]
ENDED = """
import asyncio, os, signal
import balance

async def start(name):
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.05)
        print(name, flush=True)

async def tell():
    os.kill(os.getpid(), signal.{signal})
    sum(range(100_000))

async def work():
    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(start(name))
        await asyncio.sleep(0.05)
        tasks.create_task(tell())

balance.carry_out(work())
"""


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_told_to_end_in_the_midst_of_a_task_everything_is_ended(signal: str) -> None:
    path = os.pathsep.join((str(ROOT / "bench"), str(ROOT / "tests")))
    ran = subprocess.run(
        [sys.executable, "-c", ENDED.replace("{signal}", signal)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert sorted(ran.stdout.split()) == ["a", "b", "c"], ran.stderr
    assert (ran.returncode, ran.stderr) == (1, "told to end\n")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import balance

    return balance


@pytest.mark.parametrize(("speed", "at_once"), [(1.0, 3), (0.1, 1)])
async def test_a_slow_machine_runs_fewer_at_once(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], speed: float, at_once: int
) -> None:
    ran = measure(bench, monkeypatch, speed, late={})
    cells = await bench.measure(settings(), {"llm": None}, most=100.0)
    assert max(map(len, ran)) == at_once
    assert sorted(name for names in ran for name in names) == sorted(cells) == ["a", "b", "c"]
    assert ("10.0 times as slow" in capsys.readouterr().err) == (speed == 0.1)


async def test_what_was_too_much_is_run_again_in_parts_and_only_that_counts(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = measure(bench, monkeypatch, 1.0, late={3: 2.0, 2: 0.4})
    cells = await bench.measure(settings(), {"llm": None}, most=100.0)
    assert ran == [["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["c"]]
    assert cells == ["a", "b", "c"]
    assert "requests left 2.00 s late; once more in two parts" in capsys.readouterr().err
    ran = measure(bench, monkeypatch, 1.0, late={1: 9.0})
    assert await bench.measure(settings()[:1], {"llm": None}) == ["a"], "alone it cannot be helped; the table says so"


def settings() -> list[Setting]:
    """Three of 20 requests a second, called a, b and c."""
    traffic = {"rate": 20, "answer": {"median": 20, "sigma": 0.5, "least": 4, "most": 60}}
    fleet = Fleet.model_validate(
        {"description": "One node.", "nodes": [{"name": "n"}], "traffic": traffic, "seeds": [1]}
    )
    return [Setting(name, fleet, None) for name in "abc"]


def measure(bench: Any, monkeypatch: pytest.MonkeyPatch, speed: float, late: Mapping[int, float]) -> list[list[str]]:
    """Measures nothing: what is asked to run at once; so many at once are so late."""
    ran: list[list[str]] = []

    async def run_group(them: Any, *_: object) -> list[Any]:
        ran.append([setting.name for setting, _ in them])
        return [Named(setting.name, late.get(len(them), 0.0)) for setting, _ in them]

    monkeypatch.setattr(bench, "measure_speed", lambda: speed)
    monkeypatch.setattr(bench, "run_group", run_group)
    return ran


class Named(str):
    """A cell that is told by its name."""

    late: float

    def __new__(cls, name: str, late: float) -> Named:
        made = super().__new__(cls, name)
        made.late = late
        return made
