"""A custom engine's metrics by the names that its user gives: right numbers, and words for what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from support.stack import node
from weighbridge_api.modelnode import ModelNode
from weighbridge_metrics.mapping import build_table
from weighbridge_metrics.sample import LoadSample
from weighbridge_metrics.signals import Counters, extract
from weighbridge_operator.core.engines import list_published
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.targets import list_targets
from weighbridge_operator.state import DesiredState


def custom(mapping: dict[str, Any], **metrics: Any) -> ModelNode:
    return ModelNode.from_file(node("a", 8000, engine="custom", metrics={"mapping": mapping, **metrics}))


def read(
    mapping: dict[str, Any], text: str, previous: Counters | None = None, at: float = 100.0
) -> tuple[LoadSample, Counters]:
    metrics = custom(mapping).spec.metrics
    assert metrics is not None
    assert metrics.mapping is not None
    return extract("lab/a", "custom", [text], previous or {}, at, build_table(metrics.mapping))


PAGE = """\
my_requests{stage="queued",shard="0"} 3
my_requests{stage="queued",shard="1"} 4
my_requests{stage="active",shard="0"} 9
my_gpu_percent{gpu="0"} 40
my_gpu_percent{gpu="1"} 60
my_cache{part="used",shard="0"} 10
my_cache{part="used",shard="1"} 30
my_cache{part="all",shard="0"} 40
my_cache{part="all",shard="1"} 40
my_first_token_ms 250
my_tokens_total 12345
my_room 40000
node_memory_MemTotal_bytes 100
node_memory_MemAvailable_bytes 25
"""


@pytest.mark.parametrize(
    ("signal", "mapped", "field", "value"),
    [
        ("queue", {"metric": "my_requests", "labels": {"stage": "queued"}}, "waiting", 7.0),
        ("queue", {"metric": "my_requests", "labels": {"stage": "queued", "shard": "1"}}, "waiting", 4.0),
        ("running", {"metric": "my_requests", "labels": {"stage": "active"}}, "running", 9.0),
        ("gpu", {"metric": "my_gpu_percent", "divisor": 100}, "gpu", 0.6),
        (
            "kv",
            {
                "metric": "my_cache",
                "labels": {"part": "used"},
                "total": {"metric": "my_cache", "labels": {"part": "all"}},
            },
            "kv",
            0.5,
        ),
        ("latency", {"metric": "my_first_token_ms", "divisor": 1000}, "latency", 0.25),
        ("generatedTokens", {"metric": "my_tokens_total"}, "generated_tokens", 12345.0),
        ("roomTokens", {"metric": "my_room"}, "room_tokens", 40000.0),
    ],
)
def test_a_gauge_is_read_as_its_signal_is_meant(signal: str, mapped: dict[str, Any], field: str, value: float) -> None:
    sample, _ = read({signal: mapped}, PAGE)
    assert getattr(sample, field) == pytest.approx(value)
    assert sample.error is None
    assert sample.memory == 0.75  # an exporter beside it is read as ever


def test_a_counter_tells_what_it_rose_by() -> None:
    mapping = {
        "cpu": {"metric": "busy_seconds_total", "kind": "counter", "divisor": 4},
        "latency": {"metric": "first_sum", "kind": "counter", "total": {"metric": "first_count"}},
    }
    text = 'busy_seconds_total{{core="0"}} {}\nbusy_seconds_total{{core="1"}} {}\nfirst_sum {}\nfirst_count {}\n'
    first, counters = read(mapping, text.format(10, 20, 100, 50))
    assert (first.cpu, first.latency, first.error) == (None, None, None)
    second, counters = read(mapping, text.format(12, 22, 103, 56), counters, 102.0)
    assert (second.cpu, second.latency) == (0.5, 0.5)
    restarted, _ = read(mapping, text.format(1, 1, 1, 1), counters, 104.0)
    assert (restarted.cpu, restarted.latency) == (None, None)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"queue": {"metric": "his_queue"}}, "metrics.mapping.queue: there is no his_queue on its pages"),
        (
            {"running": {"metric": "my_requests", "labels": {"stage": "done"}}},
            'metrics.mapping.running: no series of my_requests has {stage="done"}',
        ),
        (
            {"kv": {"metric": "my_room", "total": {"metric": "all_rooms"}}},
            "metrics.mapping.kv: there is no all_rooms on its pages",
        ),
        (
            {"gpuMemory": {"metric": "my_gpu_percent"}},
            "metrics.mapping.gpuMemory: my_gpu_percent makes no share of 0 to 1; give divisor or total",
        ),
        (
            {s: {"metric": s} for s in ("cpu", "gpu", "kv", "queue", "running")},
            "; ".join(f"metrics.mapping.{s}: there is no {s} on its pages" for s in ("cpu", "gpu", "kv"))
            + " (and 2 more)",
        ),
    ],
)
def test_what_is_not_there_is_absent_and_said(mapping: dict[str, Any], words: str) -> None:
    sample, _ = read(mapping, PAGE)
    assert sample.error == words
    assert (sample.waiting, sample.running, sample.kv, sample.gpu_memory) == (None, None, None, None)


@pytest.mark.parametrize("broken", ["NaN", "-1", "+Inf"])
def test_what_is_no_number_is_none_and_said(broken: str) -> None:
    sample, _ = read({"queue": {"metric": "q"}}, f"q {broken}\n")
    assert sample.waiting is None
    assert sample.error == "metrics.mapping.queue: q makes no number of 0 or more"


def test_a_mapped_node_is_asked_at_its_own_port_unless_it_says_where() -> None:
    mapping = {"queue": {"metric": "q"}}
    for made, url in (
        (custom(mapping), "http://127.0.0.1:8000/metrics"),
        (custom(mapping, scrape=[{"port": 9100, "path": "/load"}]), "http://127.0.0.1:9100/load"),
    ):
        desired = DesiredState((made,), ())
        (target,) = list_targets(resolve(desired, Scope()), desired)
        assert target.urls == (url,)
        assert target.mapped is not None


@pytest.mark.parametrize(
    ("signals", "profile", "room"),
    [
        (("queue", "running"), "llm", False),
        (("queue", "running", "roomTokens"), "llm", True),
        (("queue", "cpu"), "classic", False),
    ],
)
def test_what_is_mapped_decides_how_the_pool_is_balanced(signals: tuple[str, ...], profile: str, room: bool) -> None:
    made = custom({signal: {"metric": "m"} for signal in signals})
    assert list_published(made.spec) == set(signals)
    (pool,) = resolve(DesiredState((made,), ()), Scope()).gateway.pools
    assert pool.balance.profile == profile
    assert pool.endpoints[0].publishes_room is room
