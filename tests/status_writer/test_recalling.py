"""A restart goes on from what the statuses say of the weights, and believes nothing that the gateway did not write."""

from __future__ import annotations

from typing import Any

import pytest

from support.reports import make_endpoint, make_node, make_report
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView
from weighbridge_operator.core.memory import NodeMemory, PoolMemory, Step
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.report import FactorsReport
from weighbridge_operator.status_writer.recalling import build_memories
from weighbridge_operator.status_writer.statuses import Subject, build_statuses

POOL = "default: m"
NODES = ("default/a", "default/b", "default/s/pod-0")


def make_server(node: str, capacity: float) -> ir.Endpoint:
    owner = "/".join(node.split("/")[:2])
    return ir.Endpoint(node, owner, "vllm", "10.0.0.1", 8000, None, "/v1", (), None, "standard", capacity, None, True)


def make_pool(*capacities: float, profile: ir.Profile = "llm") -> ir.Pool:
    servers = tuple(make_server(node, capacity) for node, capacity in zip(NODES, capacities, strict=True))
    return ir.Pool(POOL, (ir.Part(POOL, servers, None, None),), ir.Balance(profile, (("queue", 40.0),), 10.0))


def write_down(verdict: Verdict) -> dict[Subject, dict[str, Any]]:
    """The statuses as an operator writes them."""
    nodes = {}
    for node, facts in verdict.facts.items():
        namespace, name, *pod = node.split("/")
        factors = FactorsReport(facts.capacity / facts.trimmed, facts.trimmed, facts.u, facts.s)
        server = make_endpoint(facts.weight, pool=POOL, name="".join(pod), factors=factors)
        nodes[name] = make_node(name, server, namespace=namespace)
    return build_statuses(make_report(list(nodes.values())))


@pytest.mark.parametrize("profile", ["llm", "classic"])
def test_the_first_weights_after_a_restart_are_the_last_ones(profile: ir.Profile) -> None:
    pool = make_pool(4, 2, 1, profile=profile)
    # Others take half of the first node; the third one is slower and was trimmed.
    steps = {NODES[0]: (-2, 0, 0), NODES[1]: (0, 1, 0), NODES[2]: (0, -1, -1)}
    known = {n: NodeMemory(0.0, u=Step(u), s=Step(s), trim=Step(t)) for n, (u, s, t) in steps.items()}
    _, before = weigh(pool, PoolMemory(0.0, nodes=known, profile=profile), LoadView(), 1.0)
    assert len(set(before.weights.values())) > 1
    memories = build_memories(write_down(before), 500.0)
    _, after = weigh(pool, memories[POOL], LoadView(), 501.0)
    assert after.weights == before.weights
    assert not after.changed
    _, neutral = weigh(pool, None, LoadView(), 501.0)
    assert neutral.weights != before.weights


@pytest.mark.parametrize(
    "change",
    [
        {"weight": -3},
        {"weight": "many"},
        {"weight": None},
        {"factors": None},
        {"factors": {"left": 0}},
        {"factors": {"speed": "fast"}},
        {"factors": {"trimmed": float("inf")}},
    ],
)
def test_what_is_not_as_the_gateway_writes_it_is_left_out(change: dict[str, Any]) -> None:
    _, verdict = weigh(make_pool(4, 2, 1), None, LoadView(), 1.0)
    statuses = write_down(verdict)
    status = statuses[Subject("ModelNode", "default", "a")]
    status["endpoints"] = [each | change for each in status["endpoints"]]
    assert NODES[0] not in build_memories(statuses, 1.0)[POOL].nodes


def test_factors_out_of_all_bounds_are_bounded() -> None:
    said = {"pool": POOL, "server": "x", "address": "x", "weight": 7, "factors": {"left": 1e-300}}
    (memory,) = build_memories({Subject("ModelNode", "default", "a"): {"endpoints": [said]}}, 0.0)[POOL].nodes.values()
    assert memory.u.value == -16
