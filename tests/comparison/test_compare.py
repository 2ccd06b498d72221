"""`weighbridge compare`: what a fleet would gain, in virtual time, over the files that the real benchmark runs."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from weighbridge_api.console import main
from weighbridge_comparison.bounds import judge
from weighbridge_comparison.cells import Cell, p99
from weighbridge_comparison.files import read_fleet
from weighbridge_comparison.mechanisms import CHOICES, run_cell
from weighbridge_comparison.setting import Setting, draw, list_settings, served
from weighbridge_comparison.tables import show_cells, show_gain
from weighbridge_operator.xds import cluster
from weighbridge_simulator.scenario import UNIT_RATE

FLEETS = Path(__file__).parents[2] / "bench" / "fleets"
UNEVEN = """
nodes:
- {name: large, size: 4, capacity: 4}
- {name: small, count: 2}
traffic: {loads: [0.8]}
duration: 120
countFrom: 20
seeds: [1]
bounds:
- {promise: mine, profiles: [llm], atMost: 0.5}
"""


def setting(tmp_path: Path, text: str) -> Setting:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return list_settings("mine", read_fleet(path))[0]


def test_the_command_says_what_a_fleet_gains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(UNEVEN.replace("count: 2}", "count: 2, capacity: 1}"))
    code = main(["compare", "-f", str(tmp_path / "mine.yaml"), "--json", str(tmp_path / "raw.json")])
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0
    assert "times faster than LEAST_REQUEST" in told
    assert "holds mine, load 0.8: mine: p99 of llm at most 0.5 of LEAST_REQUEST's" in told
    cells = json.loads((tmp_path / "raw.json").read_text())
    assert {cell["mechanism"] for cell in cells} >= {"llm", "classic", "round robin", "LEAST_REQUEST"}
    assert all(len(cell["at_ms"]) == len(cell["wait_ms"]) == len(cell["node"]) for cell in cells)


def test_the_same_fleet_is_asked_through_as_many_envoys_as_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(UNEVEN.replace("atMost: 0.5", "atMost: 1"))
    flags = ["--envoys", "1", "4", "--mechanism", "llm", "LEAST_REQUEST", "--seconds", "60"]
    main(["compare", "-f", str(tmp_path / "mine.yaml"), *flags, "--json", str(tmp_path / "raw.json")])
    told = capsys.readouterr().out
    assert "mine, 1 Envoy, load 0.8" in told
    assert "mine, 4 Envoys, load 0.8" in told
    cells = json.loads((tmp_path / "raw.json").read_text())
    few, many = ([c["node"] for c in cells if c["setting"] == name] for name in ("mine, 1 Envoy", "mine, 4 Envoys"))
    assert few != many
    assert main(["compare", "-f", str(tmp_path / "mine.yaml"), "--envoys", "9"]) == 2
    assert "with these flags: envoys: must be 8 or less" in capsys.readouterr().err


def test_a_bound_that_is_missed_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(UNEVEN.replace("capacity: 4", "capacity: 1").replace("atMost: 0.5", "atMost: 0.01"))
    assert main(["compare", "-f", str(path), "--mechanism", "llm", "LEAST_REQUEST"]) == 1
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["-f", "none.yaml"], "none.yaml: no such file or directory; name a file with a fleet"),
        (["-f", "mine.yaml", "--seconds", "5"], "with these flags: duration: must be 20 or more"),
        (["-f", "mine.yaml", "--speed", "2"], "--speed needs --trace FILE"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(UNEVEN)
    assert main(["compare", *given]) == 2
    assert told in capsys.readouterr().err


def test_virtual_time_is_told_what_envoy_is_told() -> None:
    assert CHOICES == cluster.CHOICES


def test_a_load_is_of_what_the_fleet_serves_at_its_worst_moment(tmp_path: Path) -> None:
    nodes = "nodes:\n- {name: a, count: 3}\ntraffic: {loads: [1]}\n"
    assert served(setting(tmp_path, nodes).fleet) == pytest.approx(3 * UNIT_RATE, rel=0.03)
    dead = nodes + "events:\n- {at: 5, until: 9, nodes: [a-1], does: {down: true}}\n"
    assert served(setting(tmp_path, dead).fleet) == pytest.approx(2 * UNIT_RATE, rel=0.03)
    slow = nodes + "events:\n- {at: 5, nodes: [a-1], does: {slow: 2}}\n"
    assert served(setting(tmp_path, slow).fleet) == pytest.approx(2.5 * UNIT_RATE, rel=0.03)
    others = nodes + f"events:\n- {{at: 5, nodes: [a-1], does: {{flood: {UNIT_RATE / 2}}}}}\n"
    assert served(setting(tmp_path, others).fleet) == pytest.approx(2.5 * UNIT_RATE, rel=0.03)


def test_a_trace_is_replayed_at_the_speed_of_the_load(tmp_path: Path) -> None:
    lines = [f"2023-11-16 18:{m:02}:{s:02}.0000000,{100 + s},{50 + m}" for m in range(20) for s in range(0, 60, 5)]
    (tmp_path / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines))
    (tmp_path / "mine.yaml").write_text(UNEVEN.replace("loads: [0.8]", "trace: {file: trace.csv, speed: 10}"))
    raw = tmp_path / "raw.json"
    assert main(["compare", "-f", str(tmp_path / "mine.yaml"), "--mechanism", "llm", "--json", str(raw)]) in (0, 1)
    cell = json.loads(raw.read_text())[0]
    assert len(cell["at_ms"]) == pytest.approx((120 - 20) * 10 / 5, abs=3)


def test_a_dead_node_gets_nothing_and_only_what_it_had_begun_is_lost() -> None:
    node_dies = list_settings("node-dies", read_fleet(FLEETS / "node-dies.yaml"))[0]
    cell = run_cell(node_dies, "llm", 1)
    meanwhile = [node for at, _, node in cell.rows if 60 < at < 100]
    assert meanwhile
    assert 0 not in meanwhile
    assert 0.99 < cell.answered < 1
    assert any(node == 0 for at, _, node in cell.rows if at > 100)


def test_every_mechanism_gets_the_same_requests(tmp_path: Path) -> None:
    one = setting(tmp_path, UNEVEN)
    assert draw(one, 1) == draw(one, 1) != draw(one, 2)
    assert {at for at, _, _ in run_cell(one, "llm", 1).rows} <= {arrival.at for arrival in draw(one, 1)}


def test_the_tolerance_is_that_of_the_promises(tmp_path: Path) -> None:
    one = setting(tmp_path, UNEVEN)
    cell = Cell("mine", 0.8, "llm", 1, 100, 0.1, 0.5, 1.0, {}, 0, 0.0, None, 0.0)

    def holds(ours: list[float], theirs: list[float]) -> bool:
        cells = [replace(cell, seed=n, p99=x) for n, x in enumerate(ours)]
        cells += [replace(cell, seed=n, p99=x, mechanism="LEAST_REQUEST") for n, x in enumerate(theirs)]
        return judge(one, cells)[0].holds

    assert holds([0.52, 0.4, 0.52], [1, 1, 1])  # one seed holds, the median misses by less than 5 %
    assert not holds([0.52, 0.51, 0.52], [1, 1, 1])  # every seed misses
    assert not holds([0.6, 0.6, 0.1], [1, 1, 1])  # the median misses by more
    assert p99([replace(cell, p99=x) for x in (1, 2, 9)]) == 2


def test_overdue_choices_are_shown_of_the_worst_seed_and_only_where_they_were_counted(tmp_path: Path) -> None:
    one = setting(tmp_path, UNEVEN)
    cell = Cell("mine", 0.8, "llm", 1, 100, 0.1, 0.5, 1.0, {}, 0, 0.0, None, 0.0)
    counted = [replace(cell, mechanism="precise", seed=n, overdue=count) for n, count in enumerate((4711, 0, 3))]

    def show(cells: list[Cell]) -> str:
        console = Console(width=130, record=True)
        show_cells(console, one, cells)
        return console.export_text()

    assert "overdue" not in show([cell])
    text = show([cell, *counted])
    assert "overdue" in text
    assert [line for line in text.splitlines() if "4711" in line and "precise" in line]


@pytest.mark.parametrize(("seconds", "holds"), [(0.8, True), (0.8049, True), (0.8051, False)])
def test_seconds_are_held_to_the_hundredth_as_they_are_told(tmp_path: Path, seconds: float, holds: bool) -> None:
    one = setting(tmp_path, UNEVEN.replace("atMost: 0.5", "p99: 0.8"))
    (result,) = judge(one, [Cell("mine", 0.8, "llm", 1, 100, 0.1, seconds, 1.0, {}, 0, 0.0, None, 0.0)])
    assert (result.holds, result.found) == (holds, f"{seconds:.2f} s")


@pytest.mark.parametrize(
    ("ours", "theirs", "told", "ratio"),
    [
        (2.0, 10.0, "come within 2.00 s; 5 times faster than LEAST_REQUEST", "2.00 against 10.00 s; by seed 0.20"),
        (2.0, 60.0, "2.00 s; more than 30 times faster than LEAST_REQUEST", "2.00 against >60 s; by seed <0.03"),
        (
            60.0,
            30.0,
            "do not all come within 60 s; more than 2 times slower than LEAST_REQUEST",
            ">60 against 30.00 s; by seed >2.00",
        ),
        (60.0, 60.0, "beside LEAST_REQUEST there is no telling", ">60 against >60 s; by seed unknown"),
        (59.0, 60.0, "more than 1.02 times faster than LEAST_REQUEST", "59.00 against >60 s; by seed <0.98"),
    ],
)
def test_a_time_that_was_given_up_is_told_as_a_bound(
    tmp_path: Path, ours: float, theirs: float, told: str, ratio: str
) -> None:
    one = setting(tmp_path, UNEVEN)
    cell = Cell("mine", 0.8, "llm", 1, 100, 0.1, ours, 1.0, {}, 0, 0.0, None, 0.0)
    cells = [cell, replace(cell, mechanism="LEAST_REQUEST", p99=theirs)]
    console = Console(record=True, width=200, file=io.StringIO())
    show_gain(console, one, cells)
    show_cells(console, one, cells)
    text = console.export_text()
    assert told in text
    assert text.count(">60") == sum(seconds >= 60 for seconds in (ours, theirs))
    assert judge(one, cells)[0].found == ratio
