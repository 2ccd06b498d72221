"""The benchmark on real Envoys: what it runs at once, what it tells the nodes, and one small run of all of it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_no_more_runs_at_once_than_two_cores_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import balance

    options = argparse.Namespace(
        **dict.fromkeys(("paths", "trace", "speed", "load", "seeds", "envoys", "seconds")),
        short=False,
        scenario=["uniform"],
    )
    settings = balance.read(options)
    groups = balance.group(settings, 6)
    assert sum(len(them) for them in groups) == sum(len(setting.fleet.seeds) for setting in settings)
    for them in groups:
        assert len(them) == 1 or sum(setting.rate for setting, _ in them) * 6 <= balance.MOST
    assert [seed for them in groups for _, seed in them] == sorted(seed for them in groups for _, seed in them)
