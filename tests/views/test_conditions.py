"""Which reason a condition gives where several could be given."""

from __future__ import annotations

import pytest

from weighbridge_operator.conditions import Evidence, judge_node, judge_policy
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


@pytest.mark.parametrize(("servers", "told"), [(0, "no node"), (1, "the only server"), (3, "all 3 servers")])
def test_a_policy_that_nothing_serves_says_what_its_callers_get(servers: int, told: str) -> None:
    envoyless = Evidence({}, {}, None, published=True, elsewhere={"envoy": None})
    given = judge_policy(Ref("RoutePolicy", "default", "p"), envoyless, ["cluster"], servers, up=False)[-1]
    assert (given.status, given.reason) == ("False", "NoNodeAvailable")
    assert given.message.startswith(told)
    assert "503" in given.message
