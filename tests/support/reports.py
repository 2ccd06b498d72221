"""Sample reports: what the views must show well."""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge_operator.report import (
    ConditionReport,
    EndpointReport,
    EnvoyReport,
    KindReport,
    ObjectReport,
    PoolReport,
    Report,
    SignalReport,
)

POOL = "default/chat: qwen2.5-7b"
TYPES = ("Accepted", "ResolvedRefs", "Programmed", "MetricsFresh", "Ready")
NACK = (
    "Error adding/updating listener(s) entrance: route: unknown cluster 'pool_x'\n"
    "\x1b[31mProto constraint validation failed (field: name, reason: is required)"
)


def make_conditions(false: str = "", reason: str = "Broken", message: str = "") -> tuple[ConditionReport, ...]:
    """All true, but the one named and with it Ready."""
    return tuple(
        ConditionReport(kind, "False", reason, message)
        if false and kind in (false, "Ready")
        else ConditionReport(kind, "True", kind, "")
        for kind in TYPES
    )


def make_endpoint(weight: int = 16, share: float = 57.0, **fields: object) -> EndpointReport:
    """A node that serves well; `fields` replace what it says."""
    known: dict[str, object] = {
        "pool": POOL,
        "address": "127.0.0.1:18001",
        "score": 34.4,
        "parts": (
            SignalReport("queue", 5.0, 0.5, 20.0),
            SignalReport("kv", 0.27, 0.27, 10.8),
            SignalReport("running", 12.0, 0.1875, 3.75),
        ),
        "weight": weight,
        "weight_share": share,
        "requests": 1234,
        "request_share": share,
        "inflight": 17,
        "waiting": 5.0,
        "running": 12.0,
        "kv": 0.27,
        "age": 0.8,
        "healthy": True,
        "reason": f"weight {weight} of 28: room 2 of the median (capacity 4 given), nobody else's requests weigh here, "
        "score 34, numbers 0.8 s old",
    }
    return EndpointReport(**(known | fields))  # type: ignore[arg-type]  # the fields are the tests' own


def make_node(name: str, *endpoints: EndpointReport, namespace: str = "default", **faults: str) -> ObjectReport:
    return ObjectReport("ModelNode", namespace, name, make_conditions(**faults), endpoints)


def make_envoy(name: str = "envoy-1", rejected: str = "") -> EnvoyReport:
    """An Envoy that runs all, or refuses the kind named."""
    kinds = tuple(
        KindReport(kind, "0badc0ffee0badc0", "00112233445566aa", "default_qwen-large-b20737d7", NACK)
        if kind == rejected
        else KindReport(kind, "3f2ab1c09d8e7f65", "3f2ab1c09d8e7f65", None, None)
        for kind in ("CDS", "EDS", "SDS", "LDS", "RDS")
    )
    return EnvoyReport(name, "1.40.0", 125.0, not rejected, kinds)


def make_report(
    nodes: Sequence[ObjectReport],
    envoys: Sequence[EnvoyReport] | None = None,
    problems: Sequence[str] = (),
    version: str | None = "3f2ab1c09d8e7f65",
) -> Report:
    members = {e.pool: None for node in nodes for e in node.endpoints}
    pools = tuple(
        PoolReport(
            name, "llm", False, 31.0, None, tuple(f"{n.namespace}/{n.name}" for n in nodes if n.endpoints), pushes=3
        )
        for name in members
    )
    policy = ObjectReport("RoutePolicy", "default", "chat", make_conditions())
    return Report(
        version,
        "http://127.0.0.1:8080",
        (*nodes, policy),
        pools,
        tuple(envoys) if envoys is not None else (make_envoy(),),
        tuple(problems),
        93.0,
    )


def healthy() -> Report:
    """Three nodes of different strength."""
    return make_report(
        (
            make_node("qwen-large", make_endpoint(16, 57.0)),
            make_node("qwen-middle", make_endpoint(8, 29.0, score=52.0, waiting=2.0, kv=0.61, request_share=30.5)),
            make_node("qwen-small", make_endpoint(4, 14.0, score=12.0, waiting=0.0, running=2.0, kv=0.04, parts=())),
        )
    )


def troubled() -> Report:
    """One node ejected, one that never gave numbers, one invalid and in no pool, a NACK and broken files."""
    silent = {"score": None, "parts": (), "waiting": None, "running": None, "kv": None, "age": None}
    return make_report(
        (
            make_node("qwen-large", make_endpoint(16, 57.0, healthy=False, request_share=0.0, score=96.0, kv=0.97)),
            make_node(
                "qwen-silent",
                make_endpoint(
                    8,
                    29.0,
                    healthy=None,
                    request_share=None,
                    requests=None,
                    inflight=None,
                    reason="weight 8 of 28: room 1 of the median, it never sent numbers (connection refused), "
                    "so only its room counts",
                    **silent,
                ),
                false="MetricsFresh",
                reason="NoMetrics",
                message="it never sent numbers (connection refused)",
            ),
            make_node("qwen-broken", false="Accepted", reason="Invalid", message="spec.models: a node needs a model"),
        ),
        (make_envoy(), make_envoy("envoy-2", "LDS")),
        (
            "nodes/broken.yaml:7:3: ModelNode default/qwen-broken: spec.models: is missing: name a model",
            "x.yaml: \x07tab",
        ),
    )


def many(count: int = 100) -> Report:
    return make_report(
        [
            make_node(f"node-{i:03}", make_endpoint(1024, 100 / count, healthy=i != 77, score=float(i % 100)))
            for i in range(count)
        ]
    )


def foreign() -> Report:
    """Long names, names that are not ASCII, wide characters."""
    return make_report(
        (
            make_node("a-very-long-name-of-a-node-that-nobody-should-give-but-someone-will", make_endpoint()),
            make_node("größe-é", make_endpoint(8, 28.6), namespace="team-ü"),
            make_node("模型节点", make_endpoint(4, 14.3, reason="weight 4 of 28: 它很忙, numbers 0.8 s old")),
        )
    )
