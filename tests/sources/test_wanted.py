"""Which nodes are looked for in Prometheus, and by what."""

from __future__ import annotations

from typing import Any

from support.stack import node
from weighbridge_api.modelnode import ModelNode
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.prometheus_answers import OwnQuery, Wanted
from weighbridge_operator.sources.targets import list_targets, list_wanted
from weighbridge_operator.state import DesiredState, ServiceEndpoint, ServiceState


def find(*objects: dict[str, Any]) -> tuple[dict[str, Wanted], set[str]]:
    """What is wanted of Prometheus, and who is asked directly."""
    pods = (
        ServiceEndpoint("10.1.0.1", "pod-1", (("", 8001),), ready=True, terminating=False),
        ServiceEndpoint("10.1.0.2", None, (("", 8002),), ready=True, terminating=False),
    )
    desired = DesiredState(
        nodes=tuple(ModelNode.from_file(o) for o in objects),
        services={("default", "qwen"): ServiceState((("", 80),), pods)},
        addresses={"qwen.internal": "10.0.0.9"},
    )
    resolved = resolve(desired, Scope(cluster=True))
    wanted = {each.node: each for each in list_wanted(resolved)}
    return wanted, {target.node for target in list_targets(resolved, desired)}


def at(name: str, host: str = "10.0.0.7", **spec: Any) -> dict[str, Any]:
    made = node(name, 8000, **spec)
    made["spec"]["address"]["host"] = host
    return made


def test_without_metrics_a_node_is_asked_and_looked_for_and_with_them_what_they_say_is_done() -> None:
    wanted, asked = find(
        at("silent"),
        at("plain", engine="openai"),
        at("scraped", metrics={"scrape": [{"port": 9100}]}),
        at("known", metrics={"prometheus": {}}),
        at("both", metrics={"scrape": [{"port": 8000}], "prometheus": {}}),
    )
    assert {name.partition("/")[2]: each.required for name, each in wanted.items()} == {
        "silent": False,
        "plain": False,
        "known": True,
        "both": True,
    }
    assert asked == {"default/silent", "default/scraped", "default/both"}


def test_an_address_is_found_by_its_instances_a_name_by_both() -> None:
    wanted, _ = find(at("a", "qwen.internal", metrics={"scrape": [{"port": 9100}], "prometheus": {}}))
    found = wanted["default/a"]
    assert found.labels == ()
    assert found.hosts == {"10.0.0.9", "qwen.internal"}
    assert {"10.0.0.9:8000", "qwen.internal:8000", "10.0.0.9:9100"} <= found.instances


def test_an_endpoint_of_a_service_is_found_by_its_pod_and_what_is_matched_besides() -> None:
    made = node("q", 1, metrics={"prometheus": {"match": {"cluster": "eu"}}})
    del made["spec"]["address"]
    made["spec"]["service"] = {"name": "qwen", "port": 80}
    wanted, _ = find(made)
    assert wanted["default/q/pod-1"].labels == (("cluster", "eu"), ("namespace", "default"), ("pod", "pod-1"))
    assert wanted["default/q/pod-1"].pod == ("default", "pod-1")
    nameless = wanted["default/q/10.1.0.2"]
    assert nameless.labels == (("cluster", "eu"),)
    assert "10.1.0.2:8002" in nameless.instances


def test_own_queries_carry_their_signal_and_their_time() -> None:
    queries = {"queue": "my_queue", "gpuMemory": "sum(used)"}
    times = {"gpuMemory": "min(timestamp(used))"}
    wanted, _ = find(at("a", metrics={"prometheus": {"queries": queries, "times": times}}))
    assert wanted["default/a"].own == (
        OwnQuery("gpu_memory", "sum(used)", "min(timestamp(used))"),
        OwnQuery("waiting", "my_queue"),
    )
