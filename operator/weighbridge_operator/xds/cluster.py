"""Clusters: one for each part of a pool, and chains that move on to the next pool when one has no node left.

Where a node is named for each request, a chain has another before it, whose first try is the named node's own cluster.

The settings are those of docs/architecture.md, "What Envoy is told": the best of eight choices by Envoy's own counts,
ejection on by default, retries bounded by a budget instead of the breaker that silently allows three.
"""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf.message import Message

from weighbridge_api.routepolicy import RETRIES_MOST
from weighbridge_operator.core import ir
from weighbridge_operator.xds import composite
from weighbridge_operator.xds.build import (
    Json,
    extension,
    header_predicate,
    matched_filter,
    message,
    packed,
    seconds,
)
from weighbridge_operator.xds.names import (
    CREDENTIAL_HEADER,
    METADATA,
    ROUTE_HEADER,
    SERVED_HEADER,
    name_authorities,
    name_cluster,
    name_credential,
    name_tls,
)
from weighbridge_operator.xds.precise import choose_over
from weighbridge_operator.xds.scripts import write_adapting

Credential = tuple[str, str, str]  # namespace, secret, entry
UNLIMITED = 2**32 - 1
CHOICES = 8  # docs/architecture.md: fewer send too much to a frozen node of three, a full scan is a trap
CONNECT_TIMEOUT = 2.0  # seconds
#: Below the five seconds after which uvicorn, which most engines run on, closes an idle connection under our request.
KEEP_IDLE = 4.0
HEALTH_TIMEOUT = 3.0
EJECTED_AFTER = 3  # failures in a row
ERRORS_IN_A_ROW = 20  # of any status from 500
RETRIES_LEAST, RETRIES_AT_ONCE = 10, 10_000  # whatever the budget; through a chain, at a budget of 100 %
ADS = {"ads": {}, "resource_api_version": "V3"}
_KEY_HEADERS: dict[ir.Format, str] = {
    "openai": "authorization",
    "anthropic": "x-api-key",
    "gemini": "x-goog-api-key",
}
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def translate_part(
    part: ir.Part, adapts: bool, budget: float, precise: bool = False, followed: bool = False
) -> Message:
    """The EDS cluster of a part. `adapts`: requests are rewritten for the node; `budget`: retries in percent.

    `precise`: a node may be named for a request; `followed`: in some chain another cluster stands behind this one.
    """
    policy = choose_over(_least_request()) if precise else _least_request()
    fields: Json = {
        "name": name_cluster(part.name),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS},
        "connect_timeout": seconds(CONNECT_TIMEOUT),
        "load_balancing_policy": {"policies": [{"typed_extension_config": policy}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": _breakers(budget),
        "track_cluster_stats": {"per_endpoint_stats": True},
        "ignore_health_on_host_removal": True,
        "typed_extension_protocol_options": {_OPTIONS: _http(_filters(adapts, part.credential, part.format))},
    }
    if followed or len(part.endpoints) > 1:
        fields["outlier_detection"] = _ejection(len(part.endpoints))
    if part.health is not None:
        fields["health_checks"] = [_check(part.health)]
    sockets = {name_tls(e.tls): e.tls for e in part.endpoints if e.tls is not None}
    if sockets:
        fields["transport_socket_matches"] = [_socket(name, tls) for name, tls in sorted(sockets.items())]
    return message(Cluster, fields)


def translate_chain(
    name: str,
    clusters: tuple[str, ...],
    adapts: bool,
    budget: float,
    credentials: tuple[Credential, ...],
    api: ir.Format = "openai",
) -> Message:
    """A cluster that takes the first of `clusters` with a healthy node. Counts and ejection stay with the members.

    The members' filters do not run here, so that `credentials` are all that any member needs.
    """
    members = packed("envoy.extensions.clusters.aggregate.v3.ClusterConfig", {"clusters": list(clusters)})
    kind: Json = {"name": "envoy.clusters.aggregate", "typed_config": members}
    return _over(name, kind, budget, _chain_filters(adapts, credentials, api))


def translate_first(
    name: str,
    first: str,
    chain: str,
    adapts: bool,
    budget: float,
    credentials: tuple[Credential, ...],
    api: ir.Format = "openai",
) -> Message:
    """A cluster whose requests try `first`, the first of the chain, where their node was named, and then the chain.

    A chain does not look at the node that was named, and a cluster by itself has nothing behind it.
    """
    tries = [{"name": first}, *[{"name": chain}] * RETRIES_MOST]
    kind: Json = {"name": "envoy.clusters.composite", "typed_config": packed(composite.CONFIG, {"clusters": tries})}
    return _over(name, kind, budget, _chain_filters(adapts, credentials, api))


def _over(name: str, kind: Json, budget: float, filters: list[Json]) -> Message:
    """A cluster that has no nodes, but others'."""
    fields: Json = {
        "name": name,
        "connect_timeout": seconds(CONNECT_TIMEOUT),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": kind,
        # The budget is a part of the requests that a cluster has itself, and these count at the members.
        "circuit_breakers": _breakers(budget, least=round(RETRIES_AT_ONCE * budget / 100)),
        "typed_extension_protocol_options": {_OPTIONS: _http(filters)},
    }
    return message(Cluster, fields)


def _least_request() -> Json:
    kind = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    return extension("envoy.load_balancing_policies.least_request", kind, {"choice_count": CHOICES})


def _ejection(nodes: int) -> Json:
    # 502, 503, 504, resets and refused connections count at once. A 500 can be provoked by a prompt on every node in
    # turn, so that it counts only where a node answers hardly anything else, and never against a pool's only node. That
    # is ejected at all only where ejection leads to what stands behind it: else it would answer nobody for seconds.
    return {
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_time": "60s",
        "max_ejection_percent": 50,
        "always_eject_one_host": True,
        "consecutive_gateway_failure": EJECTED_AFTER,
        "enforcing_consecutive_gateway_failure": 100,
        "consecutive_5xx": ERRORS_IN_A_ROW,
        "enforcing_consecutive_5xx": 100 if nodes > 1 else 0,
        "enforcing_success_rate": 0,
        "failure_percentage_threshold": 90,
        "enforcing_failure_percentage": 100,
        "failure_percentage_minimum_hosts": 2,
        "failure_percentage_request_volume": 20,
    }


def _breakers(budget: float, least: int = 0) -> Json:
    retries = {"budget_percent": {"value": budget}, "min_retry_concurrency": max(RETRIES_LEAST, least)}
    return {
        "thresholds": [
            {
                "max_connections": UNLIMITED,
                "max_pending_requests": UNLIMITED,
                "max_requests": UNLIMITED,
                "retry_budget": retries,
            }
        ]
    }


def _check(health: ir.HealthCheck) -> Json:
    return {
        "timeout": seconds(HEALTH_TIMEOUT),
        "interval": seconds(health.interval),
        # Between a first failure and the verdict it asks faster; a dead node is asked as often as a healthy one.
        "unhealthy_edge_interval": seconds(min(1.0, health.interval)),
        "no_traffic_interval": seconds(health.interval),
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": health.path},
    }


def _http(filters: list[Json]) -> Json:
    options: Json = {
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": seconds(KEEP_IDLE)},
    }
    if filters:
        codec = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
        options["http_filters"] = [*filters, extension("envoy.filters.http.upstream_codec", codec)]
    return packed(_OPTIONS, options)


def _filters(adapts: bool, credential: Credential | None, api: ir.Format) -> list[Json]:
    filters = [_mutate(*_TELL_NODE), _adapt()] if adapts else []
    return filters if credential is None else [*filters, _inject(credential, api)]


def _chain_filters(adapts: bool, credentials: tuple[Credential, ...], api: ir.Format) -> list[Json]:
    if not credentials:
        return _filters(adapts, None, api)
    # All tries share one set of headers: the key that one node was sent must not stay for the next.
    filters = [_mutate({"remove": _KEY_HEADERS[api]}, _tell(CREDENTIAL_HEADER, "credential"))]
    filters += _filters(adapts, None, api)
    filters += [_only_for(name_credential(found, api), _inject(found, api)) for found in credentials]
    return [*filters, _mutate({"remove": CREDENTIAL_HEADER})]


def _only_for(credential: str, inject: Json) -> Json:
    others = {"not_matcher": header_predicate(CREDENTIAL_HEADER, {"exact": credential})}
    skip = extension("skip", "envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
    return matched_filter("envoy.filters.http.match_delegate", inject, others, skip)


def _tell(header: str, key: str, more: str = "") -> Json:
    value = f"%UPSTREAM_METADATA({METADATA}:{key})%{more}"
    return {"append": {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "header": {"key": header, "value": value}}}


#: The route header goes with it, and no further: no node need know what its model is called here.
_TELL_NODE = (
    _tell(SERVED_HEADER, "served", f" %REQ({ROUTE_HEADER})%"),
    {"remove": ROUTE_HEADER},
    {"remove": "x-envoy-original-host"},
)


def _mutate(*mutations: Json) -> Json:
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return extension("envoy.filters.http.header_mutation", kind, {"mutations": {"request_mutations": list(mutations)}})


def _adapt() -> Json:
    kind = "envoy.extensions.filters.http.lua.v3.Lua"
    return extension("envoy.filters.http.lua", kind, {"default_source_code": {"inline_string": write_adapting()}})


def _inject(credential: Credential, api: ir.Format) -> Json:
    generic = packed(
        "envoy.extensions.http.injected_credentials.generic.v3.Generic",
        {"credential": {"name": name_credential(credential, api), "sds_config": ADS}, "header": _KEY_HEADERS[api]},
    )
    kind = "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector"
    fields = {
        "overwrite": True,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
    }
    return extension("envoy.filters.http.credential_injector", kind, fields)


def _socket(name: str, tls: ir.Tls) -> Json:
    wanted = {"san_type": "DNS" if any(c.isalpha() for c in tls.server_name) else "IP_ADDRESS"}
    matcher = {"match_typed_subject_alt_names": [{**wanted, "matcher": {"exact": tls.server_name}}]}
    # Envoy has no trust of its own: it refuses `system_root_certs`.
    trusted = {"name": name_authorities(tls.ca), "sds_config": ADS}
    common: Json = {
        "alpn_protocols": ["http/1.1"],
        "combined_validation_context": {
            "default_validation_context": matcher,
            "validation_context_sds_secret_config": trusted,
        },
    }
    kind = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    context: Json = {"common_tls_context": common}
    if wanted["san_type"] == "DNS":
        context["sni"] = tls.server_name
    return {
        "name": name,
        "match": {"tls": name},
        "transport_socket": extension("envoy.transport_sockets.tls", kind, context),
    }
