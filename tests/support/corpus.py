"""Objects that the API must take, and objects that it must refuse with the field that is wrong.

Files and the cluster have to agree on every one: pydantic judges the first, the schema and CEL of the CRDs the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weighbridge_api.base import Resource
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy

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
