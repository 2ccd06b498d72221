"""What a benchmark does where the machine is slow, and when it is told to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weighbridge_comparison.cells import Cell, make_cell
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
    ran = measure(bench, monkeypatch, speed)
    cells = await bench.measure(settings("abc"), GATEWAYS, bench.How(most=100.0))
    assert max(map(len, ran)) == at_once
    assert sorted(name for names in ran for name in names) == sorted(names_of(cells)) == ["a", "b", "c"]
    assert ("10.0 times as slow" in capsys.readouterr().err) == (speed == 0.1)


async def test_what_was_too_much_is_run_again_in_parts_and_only_that_counts(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = measure(bench, monkeypatch, late={4: 2.0, 2: 0.4})
    cells = await bench.measure(settings("abcd"), GATEWAYS, bench.How(most=100.0))
    assert ran == [["a", "b", "c", "d"], ["a", "b"], ["c"], ["d"], ["a"], ["b"]]
    assert names_of(cells) == ["c", "d", "a", "b"]
    assert all(cell.late == 0.0 for cell in cells)
    assert "requests left 2.00 s late; once more in parts" in capsys.readouterr().err
    measure(bench, monkeypatch, late={1: 9.0})
    cells = await bench.measure(settings("a"), GATEWAYS, bench.How())
    assert names_of(cells) == ["a"], "alone it cannot be helped; the table says so"


async def test_busy_processors_are_given_less_and_idle_ones_no_more_than_usual(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "abcdefghijklmnop"
    ran = measure(bench, monkeypatch, busy=lambda many: 0.3 * many)
    cells = await bench.measure(settings(names), GATEWAYS, bench.How(most=80.0))
    assert [len(them) for them in ran][:2] == [4, 2], "what kept them wholly busy does not count"
    assert {len(them) for them in ran[1:-1]} == {2}, "60 %, where one more would be 90 %"
    assert sorted(names_of(cells)) == list(names)
    ran = measure(bench, monkeypatch, speed=0.3, busy=lambda _: 0.05)
    await bench.measure(settings(names), GATEWAYS, bench.How(most=80.0))
    assert [len(them) for them in ran] == [1, 4, 4, 4, 3]


async def test_what_was_cut_off_goes_on_where_it_was(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    first = measure(bench, monkeypatch)
    kept = await bench.measure(settings("ab"), GATEWAYS, bench.How(20.0, journal=bench.Journal(path)))
    assert first == [["a"], ["b"]]
    whole = path.read_text()
    path.write_text(whole[:40])
    ran = measure(bench, monkeypatch)
    await bench.measure(settings("a"), GATEWAYS, bench.How(20.0, journal=bench.Journal(path)))
    assert ran == [["a"]], "cut off within its first line it is still a journal"
    path.write_text(whole + '\n{"setting": "c", "lo')
    ran = measure(bench, monkeypatch)
    cells = await bench.measure(settings("abc"), GATEWAYS, bench.How(20.0, journal=bench.Journal(path)))
    assert ran == [["c"]]
    assert cells[:2] == kept
    again = measure(bench, monkeypatch)
    assert await bench.measure(settings("abc"), GATEWAYS, bench.How(journal=bench.Journal(path))) == cells
    assert again == []
    for changed in (settings("a", duration=500.0), settings("a", seeds=[2])):
        ran = measure(bench, monkeypatch)
        await bench.measure(changed, GATEWAYS, bench.How(journal=bench.Journal(path)))
        assert ran == [["a"]], "other requests are another measurement"
    ran = measure(bench, monkeypatch)
    await bench.measure(settings("a"), GATEWAYS | {"picker": None}, bench.How(journal=bench.Journal(path)))
    assert ran == [["a"]], "all gateways of a run see the same minutes"


async def test_a_journal_without_the_single_requests_has_results_all_the_same(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    measure(bench, monkeypatch)
    kept = await bench.measure(settings("a"), GATEWAYS, bench.How(journal=bench.Journal(path)))
    told = [json.loads(line) for line in path.read_text().split("\n") if line]
    for one in told:
        del one["at_ms"], one["wait_ms"], one["node"]
    path.write_text("".join(json.dumps(one) + "\n" for one in told))
    ran = measure(bench, monkeypatch)
    cells = await bench.measure(settings("a"), GATEWAYS, bench.How(journal=bench.Journal(path)))
    assert (ran, cells) == ([], [replace(cell, rows=()) for cell in kept])


@pytest.mark.parametrize("content", [b"mine \xff\n", b'{"name": "mine"}\n', b'[{"setting": "a"}]'])
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    assert run_with_journal(path) == f"{path} is no journal of a benchmark; name another file, or a new one\n"
    assert path.read_bytes() == content


def test_a_journal_that_cannot_be_read_is_said_to_be_none(tmp_path: Path) -> None:
    assert run_with_journal(tmp_path) == f"{tmp_path} cannot be read: Is a directory; name a file to write to\n"


def run_with_journal(path: Path) -> str:
    """What the benchmark says of a journal that it refuses."""
    told = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, str(ROOT / "bench" / "balance.py"), "--journal", str(path)]
    ran = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    return ran.stderr


def test_a_busy_loop_makes_processors_busy(bench: Any) -> None:
    busy = bench.Busy()
    while (told := busy.tell()) is not None and told < 0.5 / (os.cpu_count() or 1):
        sum(range(100_000))


GATEWAYS = {"llm": None}


def settings(names: str, **changes: Any) -> list[Setting]:
    """Each of 20 requests a second, called by a letter."""
    traffic = {"rate": 20, "answer": {"median": 20, "sigma": 0.5, "least": 4, "most": 60}}
    told = {"description": "One node.", "nodes": [{"name": "n"}], "traffic": traffic, "seeds": [1]} | changes
    return [Setting(name, Fleet.model_validate(told), None) for name in names]


def names_of(cells: Sequence[Cell]) -> list[str]:
    return [cell.setting for cell in cells]


def measure(
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    speed: float = 1.0,
    late: Mapping[int, float] | None = None,
    busy: Callable[[int], float | None] = lambda _: None,
) -> list[list[str]]:
    """Measures nothing: what is asked to run at once; so many at once are so late, and keep processors so busy."""
    ran: list[list[str]] = []

    async def run_group(them: Any, gateways: Any, *_: object) -> tuple[list[Cell], float | None]:
        ran.append([setting.name for setting, _ in them])
        told = {"late": (late or {}).get(len(them), 0.0), "pushes": 0}
        rows = [(200.0, 0.25, 0)]
        cells = [
            make_cell((one.name, one.load), name, seed, one.fleet, rows, 0, **told)
            for one, seed in them
            for name in gateways
        ]
        return cells, busy(len(them))

    monkeypatch.setattr(bench, "measure_speed", lambda: speed)
    monkeypatch.setattr(bench, "run_group", run_group)
    return ran
