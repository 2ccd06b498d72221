"""A change of objects weighs the pools that it changes, and no other."""

from __future__ import annotations

from dataclasses import replace

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.tick import Weighed, weigh_pools
from weighbridge_operator.state import LoadRound

BALANCE = ir.Balance("llm", (("kv", 40.0), ("queue", 40.0), ("running", 20.0)), 10.0)


def make_pool(name: str) -> ir.Pool:
    endpoints = tuple(
        ir.Endpoint(
            node=f"default/{name}-{number}",
            model_node=f"default/{name}-{number}",
            engine="vllm",
            address=f"10.0.0.{number}",
            port=8000,
            hostname=None,
            base_path="/v1",
            served=(ir.Served(name, None, name),),
            tls=None,
            tier="standard",
            capacity=None,
            concurrency=None,
            publishes_room=True,
        )
        for number in range(2)
    )
    return ir.Pool(name, (ir.Part(name, endpoints, None, None),), BALANCE)


def test_without_load_only_new_and_changed_pools_are_weighed() -> None:
    before = ir.Gateway((make_pool("a"), make_pool("b")))
    nodes = [endpoint.node for pool in before.pools for endpoint in pool.endpoints]
    load = LoadRound(1.0, {node: LoadSample(node, 1.0, running=1.0) for node in nodes}, None)
    first = weigh_pools(before, Weighed(), load, 1.0)
    # Equal, but made anew, as resolving does.
    after = ir.Gateway((make_pool("a"), replace(make_pool("b"), balance=replace(BALANCE, queue_maximum=5.0))))
    second = weigh_pools(after, first, None, 2.0, before)
    assert second.verdicts["a"] is first.verdicts["a"]
    assert second.memories["a"].at == 1.0
    assert second.memories["b"].at == 2.0
    assert weigh_pools(after, second, load, 3.0, after).memories["a"].at == 3.0
