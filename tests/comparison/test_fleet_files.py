"""Fleet files: those of the repository are valid, and what is wrong with one is said with place, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from weighbridge_comparison.files import FleetError, read_arrivals, read_fleet

FLEETS = sorted((Path(__file__).parents[2] / "bench" / "fleets").rglob("*.yaml"))


@pytest.mark.parametrize("path", FLEETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_fleets_of_the_repository_are_valid(path: Path) -> None:
    fleet = read_fleet(path)
    assert fleet.description
    assert fleet.bounds


A = "nodes:\n- {name: a}\n"
FIVE = A + "traffic: {rate: 5}\n"
WRONG = {
    "nodes:\n- {name: a, sise: 2}\ntraffic: {rate: 5}\n": "fleet.yaml:2:13: nodes[0].sise: is not a known field; "
    "did you mean size?",
    A + "traffic: {}\n": "fleet.yaml:3:1: traffic: does not say how much comes; give loads",
    A + "traffic: {rate: 5, loads: [1]}\n": "traffic: says twice how much comes",
    "nodes:\n- {name: a, slow: 0}\ntraffic: {rate: 5}\n": "nodes[0].slow: must be more than 0, not 0; change",
    A + "- {name: a}\ntraffic: {rate: 5}\n": "two nodes are named a; name every node once",
    "nodes:\n- {name: a, count: 2}\ntraffic: {rate: 5}\nevents:\n- {at: 1, nodes: [a], does: {slow: 2}}\n": "names the "
    "node a, which is not there; there are a-1 or a-2",
    FIVE + "events:\n- {at: 1, nodes: [a], does: {slo: 2}}\n": "events[0].does: slo is "
    "nothing that can be done to a node; did you mean slow?",
    FIVE + "events:\n- {at: 1, nodes: [a], does: {lie: often}}\n": "lie: takes off, "
    "idle, frozen, nan, half, absent, not 'often'",
    FIVE + "events:\n- {at: 9, until: 3, nodes: [a], does: {slow: 2}}\n": "ends at 3 s, before it begins at 9 s",
    FIVE + "bounds:\n- {promise: x}\n": "bounds[0]: bounds nothing; add atMost",
    "nodes:\n- {name: a, joins: 9}\ntraffic: {rate: 5}\n": "no node is there at the start",
    A + "traffic: {rate: 5, sessions: {}, burst: {factor: 2, every: 9, lasts: 1}}\n": "has sessions and a burst; leave",
    A + "traffic: {rate: 5, sessions: {system: 9000}}\n": "has a system prompt of 9000 tokens and prompts of 8000 at "
    "most; raise most",
    "nodes: [\n": "fleet.yaml:",
    "": "holds no fleet",
}


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_its_remedy(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    with pytest.raises(FleetError) as raised:
        read_fleet(path)
    assert told in str(raised.value)


def test_a_trace_that_is_none_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\nnoon,1,2\n")
    with pytest.raises(FleetError, match="line 3 of the trace"):
        read_arrivals(path)
    with pytest.raises(FleetError, match="no such file"):
        read_arrivals(tmp_path / "none.csv")


def test_the_fleet_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "balance.md").read_text()
    text = page.partition("```yaml\n# mine.yaml\n")[2].partition("```")[0]
    (tmp_path / "mine.yaml").write_text(text)
    assert len(read_fleet(tmp_path / "mine.yaml").servers) == 6
