"""A change of objects weighs the pools that it changes, and no other, also where it interrupts a tick."""

from __future__ import annotations

from dataclasses import replace

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.tick import Done, Weighed, weigh_pools, weigh_stepwise
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


def make_load(gateway: ir.Gateway, at: float) -> LoadRound:
    nodes = [endpoint.node for pool in gateway.pools for endpoint in pool.endpoints]
    return LoadRound(at, {node: LoadSample(node, at, running=1.0) for node in nodes}, None)


def test_a_tick_that_begins_anew_weighs_only_what_is_left_and_what_has_changed() -> None:
    names = ("a", "b", "c", "d")
    gateway = ir.Gateway(tuple(make_pool(name) for name in names))
    first = weigh_pools(gateway, Weighed(), make_load(gateway, 1.0), 1.0)
    load, done = make_load(gateway, 2.0), Done()
    begun = weigh_stepwise(gateway, first, load, 2.0, done=done)
    for _ in range(3):
        assert next(begun) is None
    # Somebody changed b meanwhile.
    changed = [
        replace(pool, balance=replace(BALANCE, queue_maximum=5.0)) if pool.name == "b" else pool
        for pool in gateway.pools
    ]
    after = ir.Gateway(tuple(changed))
    second = weigh_pools(after, first, None, 2.5, gateway)
    (*_, ended) = weigh_stepwise(after, second, load, 3.0, done=done)
    assert ended is not None
    assert {name: ended.memories[name].at for name in names} == {"a": 2.0, "b": 3.0, "c": 2.0, "d": 3.0}
    whole = weigh_pools(after, second, load, 3.0)
    assert ended.weights == whole.weights
    assert ended.view == whole.view


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
