"""What follows from an engine alone: where health and load are asked, and how a pool of it is balanced."""

from __future__ import annotations

from typing import get_args

import pytest

from support.stack import node, policy
from weighbridge_api.modelnode import Engine, ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_metrics.engines import ENGINES
from weighbridge_operator.core import ir
from weighbridge_operator.core.engines import HABITS
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.targets import list_targets
from weighbridge_operator.state import DesiredState


def settle(*nodes: ModelNode, policies: tuple[RoutePolicy, ...] = ()) -> tuple[ir.Pool, dict[str, tuple[str, ...]]]:
    """The one pool, and the pages that are asked by node."""
    desired = DesiredState(nodes, policies)
    resolved = resolve(desired, Scope())
    (pool,) = resolved.gateway.pools
    return pool, {target.node.partition("/")[2]: target.urls for target in list_targets(resolved, desired)}


def running(engine: str, name: str = "a", **spec: object) -> ModelNode:
    return ModelNode.from_file(node(name, 8000, engine=engine, **spec))


@pytest.mark.parametrize(
    ("engine", "health", "page", "profile"),
    [
        ("vllm", "/health", "/metrics", "llm"),
        ("sglang", "/health", "/metrics", "llm"),
        ("tgi", "/health", "/metrics", "llm"),
        ("triton", "/health/ready", "/metrics", "llm"),
        ("llamacpp", "/health", "/metrics", "llm"),
        ("openai", None, None, "classic"),
    ],
)
def test_each_engine_has_defaults_of_its_own(engine: str, health: str | None, page: str | None, profile: str) -> None:
    pool, pages = settle(running(engine))
    (part,) = pool.parts
    assert (part.health.path if part.health else None) == health
    assert pages == ({"a": (f"http://127.0.0.1:8000{page}",)} if page else {})
    assert pool.balance.profile == profile
    assert part.endpoints[0].base_path == "/v1"


def test_defaults_give_way_to_what_the_user_says() -> None:
    given = {"metrics": {"scrape": [{"port": 8002, "path": "/prometheus/metrics"}]}, "health": {"path": "/health"}}
    pool, pages = settle(running("triton", **given))
    assert pool.parts[0].health == ir.HealthCheck("/health", 5.0)
    assert pages == {"a": ("http://127.0.0.1:8002/prometheus/metrics",)}


def test_one_node_that_says_nothing_makes_the_pool_classic() -> None:
    assert settle(running("tgi"), running("llamacpp", "b"))[0].balance.profile == "llm"
    assert settle(running("tgi"), running("openai", "b"))[0].balance.profile == "classic"


def test_every_engine_has_its_defaults_and_a_table_if_it_publishes_anything() -> None:
    assert set(HABITS) == set(get_args(Engine))
    published = {engine: habits.publishes for engine, habits in HABITS.items() if habits.publishes}
    fields = {"queue": "waiting", "roomTokens": "room_tokens"}
    for engine, signals in published.items():
        read = {signal for signal, _ in ENGINES[engine].signals}
        assert {fields.get(signal, signal) for signal in signals} <= read, engine


def test_a_policy_may_still_ask_for_the_other_profile() -> None:
    asked = RoutePolicy.from_file(policy("p", balance={"profile": "classic"}))
    assert settle(running("llamacpp"), policies=(asked,))[0].balance.profile == "classic"


def test_a_node_with_credentials_is_asked_for_load_with_them_at_its_own_port() -> None:
    spec = {
        "credentials": {"secretRef": {"name": "s", "key": "k"}},
        "metrics": {"scrape": [{"port": 8000}, {"port": 9100}]},
    }
    desired = DesiredState((running("llamacpp", **spec),), (), secrets={("default", "s"): {"k": b"sk-1\n"}})
    (target,) = list_targets(resolve(desired, Scope()), desired)
    assert target.key == "sk-1"
    assert target.guarded == {"http://127.0.0.1:8000/metrics"}
