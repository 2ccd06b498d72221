"""Which reason a condition gives where several could be given."""

from __future__ import annotations

import pytest

from weighbridge_operator.conditions import Evidence, judge_node
from weighbridge_operator.core.verdict import NodeFacts
from weighbridge_operator.state import Ref

NODE = Ref("ModelNode", "default", "a")
EVIDENCE = Evidence({}, {}, None, published=True)
FACTS = NodeFacts(
    node="default/a",
    weight=1024,
    capacity=1.0,
    room_source="default",
    room_raw=None,
    trimmed=1.0,
    finding=None,
    own=0.0,
    others=0.0,
    excess=0.0,
    u=1.0,
    s=1.0,
    score=None,
    suspicion="none",
    age=None,
    fresh=False,
    error=None,
)


@pytest.mark.parametrize(
    ("facts", "asked", "reason"),
    [
        # A node whose Service is not there has nobody to ask, whatever its engine publishes.
        ((), False, "NotAsked"),
        ((), True, "NotAsked"),
        ((FACTS,), False, "NoSource"),
        ((FACTS,), True, "Stale"),
    ],
)
def test_why_numbers_are_not_fresh(facts: tuple[NodeFacts, ...], asked: bool, reason: str) -> None:
    given = {c.type: c.reason for c in judge_node(NODE, EVIDENCE, (), facts, asked=asked, healthy=True)}
    assert given["MetricsFresh"] == reason
