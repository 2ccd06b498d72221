"""The benchmark on real Envoys: what it runs at once, what it tells the nodes, and one small run of all of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from weighbridge_comparison.bounds import judge
from weighbridge_comparison.cells import Cell
from weighbridge_comparison.fleet import MECHANISMS, Fleet
from weighbridge_comparison.mechanisms import run_cell
from weighbridge_comparison.setting import Setting

ROOT = Path(__file__).parents[2]
FLEET = """
description: Two nodes, one of which is slowed and then lies, and a third that joins.
duration: 20
countFrom: 2
seeds: [1]
envoys: 1
nodes:
- {name: a, size: 2, capacity: 2}
- {name: b, capacity: 1, compute: {kvTokens: 30000}}
- {name: late, capacity: 1, joins: 8}
traffic: {rate: 6, answer: {median: 20, sigma: 0.5, least: 4, most: 60}}
events:
- {at: 3, until: 6, nodes: [b], does: {slow: 3}}
- {at: 6, until: 9, nodes: [a], does: {down: true}}
- {at: 9, nodes: [a], does: {lie: idle}}
bounds:
- {promise: mine, answered: 1, atMost: 50}
"""


def run_bench(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / program), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.envoy
def test_a_fleet_file_runs_on_real_envoys(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FLEET)
    raw = tmp_path / "raw.json"
    ran = run_bench("balance.py", "-f", str(path), "--mechanism", "llm", "LEAST_REQUEST", "--json", str(raw))
    assert ran.returncode in (0, 1), ran.stderr
    assert "Traceback" not in ran.stderr
    assert "1 runs of 2 gateways" in ran.stderr
    cells = {cell["mechanism"]: cell for cell in json.loads(raw.read_text())}
    assert set(cells) == {"llm", "LEAST_REQUEST"}
    for cell in cells.values():
        assert cell["at_ms"][-1] > 15_000
        # A dead node's streams that had begun are cut; everything else is answered, and the third node takes part.
        assert cell["answered"] > 0.8
        assert cell["shares"]["late"] > 0
        meanwhile = [node for at, node in zip(cell["at_ms"], cell["node"], strict=True) if 7_000 < at < 8_500]
        assert 0 not in meanwhile


@pytest.mark.envoy
def test_told_to_end_it_leaves_no_program_behind(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FLEET)
    command = [sys.executable, str(ROOT / "bench" / "balance.py"), "-f", str(path), "--mechanism", "llm"]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as ran:
        assert ran.stderr is not None
        try:
            assert any(" 0 of 20 s" in line for line in ran.stderr)
            ran.terminate()
            assert ran.wait(30) != 0
            with pytest.raises(ProcessLookupError):
                os.killpg(ran.pid, 0)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(ran.pid, signal.SIGKILL)


async def test_a_gateway_that_does_not_start_is_started_once_more(
    options: argparse.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    import cells
    import selection

    options.scenario = ["few-large"]
    (setting, *_) = selection.read(options)
    before: list[cells.Ports] = []

    @asynccontextmanager
    async def opens(_: Fleet, ports: cells.Ports) -> AsyncIterator[Any]:
        before.append(ports)
        if len(before) == 1:
            raise TimeoutError("Envoy did not answer")
        yield "gateway"

    async with AsyncExitStack() as running:
        ports, gateway = await cells.start(setting.fleet, opens, running)
        assert gateway == "gateway"
        assert ports == before[1] != before[0]
        socket.create_connection((ports[0]["host"], ports[0]["port"])).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((before[0][0]["host"], before[0][0]["port"]))
    assert "started once more: Envoy did not answer" in capsys.readouterr().err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ports[0]["host"], ports[0]["port"]))


async def test_equal_requests_come_to_gateways_side_by_side_one_after_another(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cells

    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    ready = asyncio.Barrier(3)
    with monkeypatch.context() as patched:
        patched.setattr(cells.asyncio, "sleep", sleep)
        await asyncio.gather(*(cells.wait_turn(ready) for _ in range(3)))
    first, second, third = sorted(waits)
    assert first == 0
    assert third - second == pytest.approx(second)
    assert second >= 0.1


@pytest.mark.parametrize(
    ("program", "given", "told"),
    [
        ("balance.py", ["--scenario", "nonsense"], "there is no such scenario; there are bursts,"),
        ("balance.py", ["-f", "none.yaml"], "none.yaml: no such file or directory"),
        (
            "peers.py",
            ["--part", "balance", "--scenario", "joining"],
            "joining: a peer is told its nodes when it starts",
        ),
    ],
)
def test_what_is_wrong_is_one_line(program: str, given: list[str], told: str) -> None:
    ran = run_bench(program, *given)
    assert ran.returncode == 2
    assert told in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "path", "told"),
    [
        ("--json", f"{__file__}/x.json", f"nothing can be written in {__file__}"),
        ("--json", str(ROOT), f"{ROOT} is a directory; name a file"),
        ("--plots", __file__, f"nothing can be written in {__file__}"),
    ],
)
def test_where_nothing_can_be_written_is_said_before_anything_runs(flag: str, path: str, told: str) -> None:
    ran = run_bench("balance.py", flag, path)
    assert ran.returncode == 2
    *usage, last = ran.stderr.splitlines()
    assert last.startswith(f"balance.py: error: argument {flag}: {told}")
    assert all(line.startswith(("usage:", " ")) for line in usage)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    names = ("paths", "trace", "speed", "load", "seeds", "envoys", "seconds", "scenario")
    return argparse.Namespace(**dict.fromkeys(names))


def test_no_more_runs_at_once_than_two_cores_carry(options: argparse.Namespace) -> None:
    import selection
    from plan import Plan, list_runs

    options.scenario = ["uniform"]
    settings = selection.read(options)
    for idle in (0.0, 10.0):
        groups = Plan(list_runs(settings), 6, selection.MOST, idle).list_groups()
        ran = [(setting.title, seed) for them in groups for setting, seed in them]
        assert sorted(ran) == sorted((setting.title, seed) for setting in settings for seed in setting.fleet.seeds)
        for them in groups:
            together = sum(setting.busiest + idle * setting.fleet.envoys for setting, _ in them) * 6
            assert len(them) == 1 or together <= selection.MOST
            assert len({setting.fleet.duration for setting, _ in them}) == 1
        first = [them[0][1] for them in groups]
        assert first == sorted(first)


def test_a_brief_run_sees_every_file_at_one_load_and_all_its_events(options: argparse.Namespace) -> None:
    import selection
    from plan import Plan, list_runs

    whole, brief = selection.read(options), selection.read_brief(options)
    assert [setting.name for setting in brief] == list(dict.fromkeys(setting.name for setting in whole))
    for setting in brief:
        fleet, file = setting.fleet, next(other for other in whole if other.name == setting.name)
        assert len(fleet.seeds) == 1
        assert fleet.duration <= file.fleet.duration
        for moment in (fleet.count_from, *(event.at for event in fleet.events), *(n.joins for n in fleet.servers)):
            assert moment + selection.SEEN <= fleet.duration
        assert fleet.duration in (file.fleet.duration, max(fleet.duration, selection.LEAST))
    groups = Plan(list_runs(brief), 6, selection.MOST).list_groups()
    hours = sum(them[0][0].fleet.duration for them in groups) / 3600
    assert hours < 1.5


def test_what_flags_say_of_a_brief_run_is_done(options: argparse.Namespace) -> None:
    import selection

    options.scenario, options.load, options.seeds, options.seconds = ["uneven"], [0.5, 0.7], [4, 5], 77.0
    brief = selection.read_brief(options)
    assert [(s.load, s.fleet.seeds, s.fleet.duration) for s in brief] == [(0.5, (4, 5), 77.0), (0.7, (4, 5), 77.0)]


def test_chance_alone_hardly_misses_a_bound_of_the_short_form(options: argparse.Namespace) -> None:
    import balance
    import selection

    options.seeds = list(range(1, 7))
    for setting in selection.read_short(options):
        missed = 0
        for seed in setting.fleet.seeds:
            mechanisms = [name for name in MECHANISMS if name != balance.SHORT_LEAVES_OUT]
            cells = [run_cell(setting, name, seed) for name in mechanisms]
            missed += not all(result.holds for result in judge(setting, cells))
        assert missed <= 1, setting.title


async def test_what_misses_a_bound_is_run_as_its_file_says_and_judged_by_that(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import balance
    import selection

    ran: list[tuple[str, tuple[int, ...], float]] = []

    async def measure(settings: Sequence[Setting], *_: object) -> list[Cell]:
        ran.extend((setting.name, setting.fleet.seeds, setting.fleet.duration) for setting in settings)
        return [make(setting, seed, ours) for setting in settings for seed in setting.fleet.seeds for ours in (1, 0)]

    def make(setting: Setting, seed: int, ours: int) -> Cell:
        whole = len(setting.fleet.seeds) > 1
        p99 = {"uniform-nan": 1.0, "uniform-old": 0.8 if whole else 3.0, "one-slow": 3.0}[setting.name]
        mechanism = "llm" if ours else "LEAST_REQUEST"
        return Cell(
            setting.name, setting.load, mechanism, seed, 9, 0.1, p99 if ours else 1.0, 1.0, {}, 0, None, None, 0
        )

    monkeypatch.setattr(balance, "measure", measure)
    options.scenario = ["uniform-nan", "uniform-old", "one-slow"]
    found = await balance.run(selection.read_brief(options), {}, balance.How(), selection.read_missed(options))
    assert [(name, seeds) for name, seeds, _ in ran[:3]] == [
        ("one-slow", (1,)),
        ("uniform-nan", (1,)),
        ("uniform-old", (1,)),
    ]
    files = {setting.name: setting.fleet for setting in selection.read(options)}
    whole = [(name, files[name].seeds, files[name].duration) for name in ("one-slow", "uniform-old")]
    assert ran[3:] == whole
    assert len(found.cells) == 2 * (1 + 3 + 3)
    assert {result.setting.split(",")[0] for result in found.results if not result.holds} == {"one-slow"}
    options.seeds = [1]
    assert selection.read_missed(options) == []
