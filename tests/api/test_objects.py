"""What the API takes and what it refuses, field by field, in files and from the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from weighbridge_api.base import Resource
from weighbridge_api.faults import read_faults
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_api.secret import Secret

NODE: Mapping[str, Any] = {
    "engine": "vllm",
    "address": {"host": "10.0.3.7", "port": 8000},
    "models": [{"name": "qwen2.5-7b"}],
}

VALID_NODES: tuple[Mapping[str, Any], ...] = (
    {},
    {"engine": "openai", "concurrency": 64},
    {"address": {"host": "fd00::7", "port": 1, "path": "/"}},
    {"address": {"host": "127.0.0.1", "port": 65535, "path": "/compatible-mode/v1"}},
    {"address": {"host": "qwen-a.pool-1.internal", "port": 443}},
    {"address": {"host": "1a.example", "port": 443}},
    {"tls": {}},
    {"tls": {"caSecretRef": {"name": "node-ca"}, "serverName": "qwen.internal"}},
    {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}},
    {"tier": "high", "capacity": 2, "concurrency": 1},
    {"capacity": 0.5},
    {"models": [{"name": "a"}, {"name": "a", "version": "1"}, {"name": "a", "version": "2"}, {"name": "b"}]},
    {"models": [{"name": "org/model:tag+x", "types": ["text", "embedding", "image", "audio", "rerank"]}]},
    {"models": [{"name": "a", "servedAs": "/models/My Model (v2), final!"}]},
    {"models": [{"name": f"m{number}"} for number in range(64)]},
    {"metrics": {"scrape": [{"port": 8000}, {"port": 8000, "path": "/other"}, {"port": 9100}]}},
    {"health": {}},
    {"health": {"path": "/health/", "interval": "1m30s"}},
)
INVALID_NODES: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({"engine": "tgi"}, "spec.engine"),
    ({"address": {"host": "10.0.3.7"}}, "spec.address.port"),
    ({"address": {"host": "10.0.3.7", "port": 0}}, "spec.address.port"),
    ({"address": {"host": "10.0.3.7", "port": 65536}}, "spec.address.port"),
    ({"address": {"host": "10.0.3.7", "port": "8000"}}, "spec.address.port"),
    ({"address": {"host": "10.0.3", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "Qwen", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "a..b", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "-a", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "a_b", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "[fd00::7]", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "fe80::1%eth0", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "::ffff:10.0.0.1", "port": 8000}}, "spec.address.host"),
    ({"address": {"host": "169.254.169.254", "port": 80}}, "spec.address.host"),
    ({"address": {"host": "fe80::1", "port": 80}}, "spec.address.host"),
    ({"address": {"host": "0.0.0.0", "port": 80}}, "spec.address.host"),
    ({"address": {"host": "::", "port": 80}}, "spec.address.host"),
    ({"address": {"host": "224.0.0.1", "port": 80}}, "spec.address.host"),
    ({"address": {"host": "255.255.255.255", "port": 80}}, "spec.address.host"),
    ({"address": {"host": "a", "port": 80, "path": "v1"}}, "spec.address.path"),
    ({"address": {"host": "a", "port": 80, "path": "/v1/"}}, "spec.address.path"),
    ({"address": {"host": "a", "port": 80, "path": "//v1"}}, "spec.address.path"),
    ({"address": {"host": "a", "port": 80, "path": "/a/../b"}}, "spec.address.path"),
    ({"address": {"host": "a", "port": 80, "path": "/v1?x=1"}}, "spec.address.path"),
    ({"address": {"host": "a", "port": 80, "path": "/v1\n"}}, "spec.address.path"),
    ({"tls": {"serverName": "*.internal"}}, "spec.tls.serverName"),
    ({"tls": {"caSecretRef": {}}}, "spec.tls.caSecretRef.name"),
    ({"credentials": {}}, "spec.credentials.secretRef"),
    ({"credentials": {"secretRef": {"name": "a"}}}, "spec.credentials.secretRef.key"),
    ({"credentials": {"secretRef": {"name": "a", "key": "a b"}}}, "spec.credentials.secretRef.key"),
    ({"tier": "premium"}, "spec.tier"),
    ({"models": []}, "spec.models"),
    ({"models": [{"name": f"m{number}"} for number in range(65)]}, "spec.models"),
    ({"models": [{"name": "a"}, {"name": "a"}]}, "spec.models"),
    ({"models": [{"name": "a", "version": "1"}, {"name": "a", "version": "1"}]}, "spec.models"),
    ({"models": [{"name": "a@1"}]}, "spec.models[0].name"),
    ({"models": [{"name": "a*"}]}, "spec.models[0].name"),
    ({"models": [{"name": "-a"}]}, "spec.models[0].name"),
    ({"models": [{"name": "a" * 254}]}, "spec.models[0].name"),
    ({"models": [{"name": "a", "types": []}]}, "spec.models[0].types"),
    ({"models": [{"name": "a", "types": ["text", "text"]}]}, "spec.models[0].types"),
    ({"models": [{"name": "a", "types": ["video"]}]}, "spec.models[0].types[0]"),
    ({"models": [{"name": "a", "version": "a b"}]}, "spec.models[0].version"),
    ({"models": [{"name": "a", "version": ""}]}, "spec.models[0].version"),
    ({"models": [{"name": "a", "servedAs": "a;b"}]}, "spec.models[0].servedAs"),
    ({"models": [{"name": "a", "servedAs": "a=b"}]}, "spec.models[0].servedAs"),
    ({"models": [{"name": "a", "servedAs": "a\\b"}]}, "spec.models[0].servedAs"),
    ({"models": [{"name": "a", "servedAs": 'a"b'}]}, "spec.models[0].servedAs"),
    ({"models": [{"name": "a", "servedAs": "größe"}]}, "spec.models[0].servedAs"),
    ({"models": [{"name": "a", "servedAs": "a\n"}]}, "spec.models[0].servedAs"),
    ({"models": [{"name": "a", "servedAs": "a" * 513}]}, "spec.models[0].servedAs"),
    ({"capacity": 0}, "spec.capacity"),
    ({"capacity": -1}, "spec.capacity"),
    ({"concurrency": 0}, "spec.concurrency"),
    ({"concurrency": 1.5}, "spec.concurrency"),
    ({"metrics": {"scrape": []}}, "spec.metrics.scrape"),
    ({"metrics": {"scrape": [{"port": 1}, {"port": 1}]}}, "spec.metrics.scrape"),
    ({"metrics": {"scrape": [{"port": port} for port in range(1, 10)]}}, "spec.metrics.scrape"),
    ({"metrics": {"scrape": [{"port": 1, "path": "metrics"}]}}, "spec.metrics.scrape[0].path"),
    ({"health": {"interval": "500ms"}}, "spec.health.interval"),
    ({"health": {"interval": "6m"}}, "spec.health.interval"),
    ({"health": {"interval": "5"}}, "spec.health.interval"),
    ({"health": {"interval": 5}}, "spec.health.interval"),
    ({"health": {"path": ""}}, "spec.health.path"),
)
VALID_POLICIES: tuple[Mapping[str, Any], ...] = (
    {},
    {"match": {}},
    {"match": {"models": ["*", "a*", "a"], "types": ["text"], "headers": {"x-team": "search and find"}}},
    {"nodes": {"matchLabels": {"pool": "chat", "example.com/zone": ""}}},
    {"balance": {}},
    {"balance": {"profile": "classic", "weights": {"cpu": 40, "memory": 30, "queue": 30.5}, "queueMaximum": 100}},
    {"balance": {"weights": {"gpuMemory": 0, "kv": 1}}},
    {"balance": {"weights": {}}},
    {"defaultModel": "a"},
    {"versions": [{"version": "1", "share": 95}, {"version": "2", "share": 5}]},
    {"versions": [{"version": "1", "share": 100}, {"version": "2", "share": 0}]},
    {"versions": []},
    {"retry": {}},
    {"retry": {"attempts": 0, "budget": "0%"}},
    {"retry": {"attempts": 5, "budget": "100%"}},
    {"retry": {"budget": "12.5%"}},
    {"timeouts": {}},
    {"timeouts": {"total": "10s"}},
    {"timeouts": {"firstToken": "60s", "idle": "1m", "total": "1m"}},
    {"timeouts": {"firstToken": "100ms", "total": "24h"}},
    {"fallback": [{"model": "a"}, {"model": "b"}, {"model": "c"}, {"model": "d"}]},
)
INVALID_POLICIES: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({"match": {"models": ["*a"]}}, "spec.match.models[0]"),
    ({"match": {"models": ["a**"]}}, "spec.match.models[0]"),
    ({"match": {"models": [""]}}, "spec.match.models[0]"),
    ({"match": {"models": ["a", "a"]}}, "spec.match.models"),
    ({"match": {"models": [f"m{number}" for number in range(65)]}}, "spec.match.models"),
    ({"match": {"types": ["Text"]}}, "spec.match.types[0]"),
    ({"match": {"headers": {"x-weighbridge-user": "a"}}}, "spec.match.headers"),
    ({"match": {"headers": {"X-Team": "a"}}}, "spec.match.headers.X-Team"),
    ({"match": {"headers": {":path": "a"}}}, 'spec.match.headers[":path"]'),
    ({"match": {"headers": {"x-team": "a\r\nb"}}}, "spec.match.headers.x-team"),
    ({"match": {"headers": {"x-team": ""}}}, "spec.match.headers.x-team"),
    ({"match": {"headers": {f"x-{number}": "a" for number in range(9)}}}, "spec.match.headers"),
    ({"nodes": {}}, "spec.nodes.matchLabels"),
    ({"nodes": {"matchLabels": {}}}, "spec.nodes.matchLabels"),
    ({"nodes": {"matchLabels": {"a b": "c"}}}, 'spec.nodes.matchLabels["a b"]'),
    ({"nodes": {"matchLabels": {"a": "b c"}}}, "spec.nodes.matchLabels.a"),
    ({"nodes": {"matchLabels": {f"l{number}": "a" for number in range(17)}}}, "spec.nodes.matchLabels"),
    ({"balance": {"profile": "fast"}}, "spec.balance.profile"),
    ({"balance": {"weights": {"cpu": 0}}}, "spec.balance.weights"),
    ({"balance": {"weights": {"cpu": 101}}}, "spec.balance.weights.cpu"),
    ({"balance": {"weights": {"cpu": -1}}}, "spec.balance.weights.cpu"),
    ({"balance": {"queueMaximum": 0}}, "spec.balance.queueMaximum"),
    ({"defaultModel": "a*"}, "spec.defaultModel"),
    ({"versions": [{"version": "1", "share": 99}]}, "spec.versions"),
    ({"versions": [{"version": "1", "share": 50}, {"version": "1", "share": 50}]}, "spec.versions"),
    ({"versions": [{"version": "1", "share": 101}]}, "spec.versions[0].share"),
    ({"versions": [{"version": "1"}]}, "spec.versions[0].share"),
    ({"retry": {"attempts": 6}}, "spec.retry.attempts"),
    ({"retry": {"attempts": -1}}, "spec.retry.attempts"),
    ({"retry": {"budget": "101%"}}, "spec.retry.budget"),
    ({"retry": {"budget": "20"}}, "spec.retry.budget"),
    ({"retry": {"budget": 20}}, "spec.retry.budget"),
    ({"timeouts": {"idle": "16m"}}, "spec.timeouts"),
    ({"timeouts": {"firstToken": "2m", "total": "1m"}}, "spec.timeouts"),
    ({"timeouts": {"total": "0s"}}, "spec.timeouts.total"),
    ({"timeouts": {"total": "25h"}}, "spec.timeouts.total"),
    ({"timeouts": {"total": "1.5s"}}, "spec.timeouts.total"),
    ({"fallback": [{"model": "*"}]}, "spec.fallback[0].model"),
    ({"fallback": [{"model": "a"}, {"model": "a"}]}, "spec.fallback"),
    ({"fallback": [{"model": name} for name in "abcde"]}, "spec.fallback"),
)
#: Keys that no schema knows; the API server drops them (or kubectl refuses them), files refuse them.
UNKNOWN: tuple[tuple[type[Resource], Mapping[str, Any], str], ...] = (
    (ModelNode, {"service": {"name": "a", "port": 1}}, "spec.service"),
    (ModelNode, {"models": [{"name": "a", "served_as": "b"}]}, "spec.models[0].served_as"),
    (RoutePolicy, {"priority": 2}, "spec.priority"),
    (RoutePolicy, {"balance": {"precise": True}}, "spec.balance.precise"),
)


def build_node(spec: Mapping[str, Any]) -> dict[str, Any]:
    return build(ModelNode, {**NODE, **spec})


def build(kind: type[Resource], spec: Mapping[str, Any]) -> dict[str, Any]:
    version = "weighbridge.dev/v1alpha1"
    return {"apiVersion": version, "kind": kind.__name__, "metadata": {"name": "a"}, "spec": dict(spec)}


def faults(kind: type[Resource], data: object) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        kind.from_file(data)
    return [str(fault) for fault in read_faults(raised.value, kind, quote=kind.quotable)]


@pytest.mark.parametrize("spec", VALID_NODES, ids=str)
def test_a_valid_node_is_taken_and_written_back_as_it_was_meant(spec: Mapping[str, Any]) -> None:
    node = ModelNode.from_file(build_node(spec))
    assert ModelNode.from_file(node.model_dump(mode="json", exclude_none=True)) == node
    assert ModelNode.from_cluster(build_node(spec)) == node


@pytest.mark.parametrize(("spec", "field"), INVALID_NODES, ids=str)
def test_an_invalid_node_is_refused_with_one_line_that_names_the_field(spec: Mapping[str, Any], field: str) -> None:
    (line,) = faults(ModelNode, build_node(spec))
    assert line.startswith(f"{field}: ")
    assert "; " in line


@pytest.mark.parametrize("spec", VALID_POLICIES, ids=str)
def test_a_valid_policy_is_taken_and_written_back_as_it_was_meant(spec: Mapping[str, Any]) -> None:
    policy = RoutePolicy.from_file(build(RoutePolicy, spec))
    assert RoutePolicy.from_file(policy.model_dump(mode="json", exclude_none=True)) == policy
    assert RoutePolicy.from_cluster(build(RoutePolicy, spec)) == policy


@pytest.mark.parametrize(("spec", "field"), INVALID_POLICIES, ids=str)
def test_an_invalid_policy_is_refused_with_one_line_that_names_the_field(spec: Mapping[str, Any], field: str) -> None:
    (line,) = faults(RoutePolicy, build(RoutePolicy, spec))
    assert line.startswith(f"{field}: ")
    assert "; " in line


@pytest.mark.parametrize(("kind", "spec", "field"), UNKNOWN, ids=str)
def test_an_unknown_key_is_an_error_in_a_file_and_dropped_from_the_cluster(
    kind: type[Resource], spec: Mapping[str, Any], field: str
) -> None:
    data = build_node(spec) if kind is ModelNode else build(kind, spec)
    (line,) = faults(kind, data)
    assert line.startswith(f"{field}: is not a known field")
    assert kind.from_cluster(data).metadata.name == "a"


def test_the_defaults_are_those_of_the_design() -> None:
    node = ModelNode.from_file(build_node({"health": {}})).spec
    assert (node.address.path, node.tier, node.models[0].types) == ("/v1", "standard", ("text",))
    assert node.health is not None
    assert (node.health.interval, node.health.path) == (5.0, None)
    policy = RoutePolicy.from_file(build(RoutePolicy, {})).spec
    assert (policy.retry.attempts, policy.retry.budget) == (2, 20.0)
    assert (policy.timeouts.first_token, policy.timeouts.idle, policy.timeouts.total) == (60.0, 30.0, 900.0)
    assert (policy.balance.profile, policy.balance.queue_maximum, dict(policy.balance.weights)) == (None, None, {})


def test_a_short_total_lowers_the_timeouts_that_were_not_given() -> None:
    spec = RoutePolicy.from_file(build(RoutePolicy, {"timeouts": {"total": "40s"}})).spec
    assert (spec.timeouts.first_token, spec.timeouts.idle, spec.timeouts.total) == (40.0, 30.0, 40.0)


def test_what_the_api_server_adds_is_tolerated_and_makes_no_difference() -> None:
    data = build_node({})
    metadata = {"resourceVersion": "7", "managedFields": [{}], "annotations": {"a": "b"}, "labels": None}
    read = ModelNode.from_file(data | {"metadata": data["metadata"] | metadata, "status": {"conditions": [3]}})
    assert read == ModelNode.from_file(data)
    later = data["metadata"] | {"generation": 3, "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    assert ModelNode.from_file(data | {"metadata": later}).metadata.generation == 3


def test_order_without_meaning_makes_no_difference() -> None:
    one = {"match": {"models": ["a", "b"], "types": ["text", "image"], "headers": {"x-a": "1", "x-b": "2"}}}
    two = {"match": {"models": ["b", "a"], "types": ["image", "text"], "headers": {"x-b": "2", "x-a": "1"}}}
    first, second = (RoutePolicy.from_file(build(RoutePolicy, spec)) for spec in (one, two))
    assert repr(first) == repr(second)


def test_objects_cannot_be_changed() -> None:
    node = ModelNode.from_file(build_node({}))
    with pytest.raises(ValidationError):
        node.spec.capacity = 2.0  # type: ignore[misc]


def test_a_secret_gives_its_entries_and_never_shows_them() -> None:
    data = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque"}
    secret = Secret.from_file(data | {"data": {"a": "aGVs\nbG8=", "b": "eA=="}, "stringData": {"b": "plain-text"}})
    assert secret.entries() == {"a": b"hello", "b": b"plain-text"}
    assert "plain" not in repr(secret)
    assert "aGVs" not in repr(secret)
    lines = faults(Secret, data | {"data": {"a": "top-secret!"}, "stringData": {"b": 12345678, "c": ["top-secret"]}})
    assert len(lines) == 3
    assert not any("top" in line or "1234" in line for line in lines)
