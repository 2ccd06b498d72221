"""Patches of a node's control: what they take, what they refuse, and what they do to a running node."""

import pytest

from weighbridge_simulator.control import Control, ControlError, Fail, patch_control
from weighbridge_simulator.engine import Job
from weighbridge_simulator.node import Node, NodeSpec

START = Control(slow=2.0, cpu=0.3)


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({"slow": 5}, Control(slow=5.0, cpu=0.3)),
        ({"room": 4}, Control(slow=2.0, cpu=0.3, size=4.0)),
        ({"freeze": True}, Control(slow=2.0, cpu=0.3, freeze="all")),
        ({"freeze": "engine", "lie": "half"}, Control(slow=2.0, cpu=0.3, freeze="engine", lie="half")),
        ({"fail": 503}, Control(slow=2.0, cpu=0.3, fail=Fail("status", 503))),
        ({"fail": {"status": "die", "share": 0.25}}, Control(slow=2.0, cpu=0.3, fail=Fail("die", share=0.25))),
        ({"fail": 0, "cpu": 0.9}, Control(slow=2.0, cpu=0.9)),
        ({"queue": 7, "flood": 2.5, "down": True}, Control(slow=2.0, cpu=0.3, queue=7, flood=2.5, down=True)),
    ],
)
def test_a_patch_changes_what_it_names_and_nothing_else(patch: dict, changed: Control) -> None:
    assert patch_control(START, START, patch) == changed


def test_null_and_clear_go_back_to_the_start() -> None:
    moved = patch_control(START, START, {"slow": 9, "cpu": 0.9, "lie": "idle"})
    assert patch_control(moved, START, {"cpu": None}) == Control(slow=9.0, cpu=0.3, lie="idle")
    assert patch_control(moved, START, {"clear": True}) == START
    assert patch_control(moved, START, {"clear": True, "flood": 1}) == Control(slow=2.0, cpu=0.3, flood=1.0)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ([], "JSON object"),
        ({"speed": 5}, "speed: unknown; known are"),
        ({"slow": 0}, "slow: takes 0.001 to 1000, not 0"),
        ({"slow": "5"}, "slow: takes a number"),
        ({"slow": float("nan")}, "slow: takes a number"),
        ({"cpu": 90}, "cpu: takes 0 to 1, not 90"),
        ({"lie": "always"}, "lie: takes off, idle"),
        ({"lie": []}, "lie: takes off, idle"),
        ({"freeze": 1}, "freeze: takes off"),
        ({"fail": 200}, "fail: takes a status from 400"),
        ({"fail": {"status": 503, "share": 2}}, "fail.share: takes 0 to 1"),
        ({"fail": {"kind": "die"}}, "fail: takes status and share"),
        ({"down": "yes"}, "down: takes true or false"),
        ({"clear": False}, "clear: takes true"),
    ],
)
def test_what_makes_no_sense_names_the_field_and_what_it_takes(patch: object, message: str) -> None:
    with pytest.raises(ControlError, match=message):
        patch_control(START, START, patch)


def test_a_refused_patch_changes_nothing() -> None:
    node = Node(NodeSpec(), 0.0)
    with pytest.raises(ControlError):
        node.change({"slow": 5, "cpu": 90}, 1.0)
    assert node.control == Control()
    assert node.engine.slow == 1.0


def test_speed_and_size_reach_the_engine() -> None:
    node = Node(NodeSpec(), 0.0)
    node.change({"slow": 5, "size": 2}, 1.0)
    assert node.engine.slow == 5.0
    assert (node.engine.spec.kv_tokens, node.engine.spec.sequences) == (80_000, 128)


def test_a_slowed_node_ends_later_by_its_factor() -> None:
    quick, slow = Node(NodeSpec(), 0.0), Node(NodeSpec(), 0.0)
    slow.change({"slow": 3}, 0.0)
    ends = []
    for node in (quick, slow):
        job = Job(512, 100)
        node.submit(job, 0.0)
        node.advance(1e6)
        ends.append(job.end)
    assert ends[1] == pytest.approx(3 * ends[0])
