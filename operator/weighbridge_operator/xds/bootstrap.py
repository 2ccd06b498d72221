"""What an Envoy is told before it can ask: who it is, where the operator is, and where its own statistics are.

Everything else comes over ADS (https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/bootstrap). Pure: a
dict that is JSON and, with it, YAML.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from weighbridge_operator.xds.bootstrap_tls import TlsFiles, operator_tls
from weighbridge_operator.xds.names import DATAPLANE, OTHERS_LAYER, RUNTIME_LAYER, STATISTICS, is_literal, print_address
from weighbridge_operator.xds.overload import manage_overload

Json = dict[str, Any]

LOOPBACK = "127.0.0.1"
MEMORY = "2Gi"
CONNECTIONS = 50_000  # of callers at once; one more is refused
KEEPALIVE = ("2s", "1s")  # between pings, and for the answer to one: a frozen operator is noticed in 3 s
BUCKETS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000)  # milliseconds
EVICTION = "86400s"  # what was not counted between two of these is forgotten: nodes and models come and go
RECONNECT = ("0.2s", "1s")  # first and longest pause
#: All of the admin interface that others may see: it can also end the process.
SHOWN = ("/stats", "/stats/prometheus", "/ready")
#: Of the configuration, what an operator asks back after its own restart; not the rest, where secrets have traces.
DUMPED = ("dynamic_active_clusters", "dynamic_route_configs")

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"


@dataclass(frozen=True, slots=True)
class BootstrapSettings:
    """Addresses are "host:port". `stats`: where the operator may read statistics; None says the admin interface."""

    operator: str
    gateway: str
    id: str
    admin_port: int
    stats: str | None = None
    connections: int = CONNECTIONS
    memory: int | None = None  # bytes that it may take; None: what there is
    tls: TlsFiles | None = None
    dataplanes: tuple[str, ...] = ()  # Unix sockets of the data plane's processes beside it


def bootstrap(settings: BootstrapSettings) -> Json:
    """Envoy's configuration. Raises ValueError where an address or the port won't do."""
    if not 0 < settings.admin_port < 65536:
        raise ValueError("the admin port must be from 1 to 65535: Envoy tells the operator where it is")
    stats = _read_stats(settings.stats) if settings.stats is not None else None
    told = stats or (LOOPBACK, settings.admin_port)
    config: Json = {
        "node": {
            "id": settings.id,
            "cluster": settings.gateway,
            "metadata": {"weighbridge": _introduce(settings, told)},
        },
        "admin": {"address": _socket(LOOPBACK, settings.admin_port), "ignore_global_conn_limit": True},
        "dynamic_resources": _ask_operator(),
        "static_resources": {"clusters": [_operator(*read_address(settings.operator), settings.tls)]},
        "stats_config": {"histogram_bucket_settings": _limits()},
        "stats_eviction_interval": EVICTION,
        **manage_overload(settings.connections, settings.memory),
    }
    if settings.dataplanes:
        config["layered_runtime"] = {"layers": [_runtime(name) for name in (RUNTIME_LAYER, OTHERS_LAYER)]}
        config["static_resources"]["clusters"].append(_dataplane(settings.dataplanes))
    if stats is not None:
        config["static_resources"]["clusters"].append(_admin(settings.admin_port))
        config["static_resources"]["listeners"] = [_stats_listener(*stats)]
    return config


def _introduce(settings: BootstrapSettings, stats: tuple[str, int]) -> Json:
    told: Json = {"stats": f"http://{print_address(*stats)}"}
    return {**told, "dataplane": True} if settings.dataplanes else told


def read_address(text: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[ipv6]:port". Raises ValueError with a remedy."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not an address; write host:port, for example 127.0.0.1:18000")
    if bracketed != (":" in host) or any(c in "/@?#[]" or not c.isprintable() or c.isspace() for c in host):
        raise ValueError(f"{text!r} is not an address; write host:port, or [address]:port where it is IPv6")
    return host, int(port)


def _read_stats(text: str) -> tuple[str, int]:
    host, port = read_address(text)
    if not is_literal(host) or ip_address(host).is_unspecified:
        raise ValueError(f"{text!r} can't be told: give the IP address at which the operator reaches this Envoy")
    return host, port


def _ask_operator() -> Json:
    first, longest = RECONNECT
    retry = {"retry_back_off": {"base_interval": first, "max_interval": longest}}
    # An operator is silent until it knows everything; an Envoy without configuration must not look ready meanwhile.
    source = {"resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "ads_config": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds", "retry_policy": retry}}],
        },
        "cds_config": {"ads": {}, **source},
        "lds_config": {"ads": {}, **source},
    }


def _operator(host: str, port: int, tls: TlsFiles | None) -> Json:
    interval, timeout = KEEPALIVE
    http2 = {"connection_keepalive": {"interval": interval, "timeout": timeout}}
    options = {"@type": f"type.googleapis.com/{_HTTP}", "explicit_http_config": {"http2_protocol_options": http2}}
    cluster = _cluster("xds", host, port) | {"typed_extension_protocol_options": {_HTTP: options}}
    return cluster if tls is None else cluster | {"transport_socket": operator_tls(host, tls)}


def _runtime(name: str) -> Json:
    # An operator that does not know of it must not keep an Envoy from starting.
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "1s"}
    return {"name": name, "rtds_layer": {"name": name, "rtds_config": source}}


def _dataplane(sockets: tuple[str, ...]) -> Json:
    # One that is frozen or slow holds each request for the filter's time-out until this check takes it out, in 1 s or
    # so: who answers it later than a request waits is no use to requests. A single late answer says nothing yet.
    check = {"timeout": "0.02s", "interval": "0.5s", "unhealthy_threshold": 2, "healthy_threshold": 1}
    check |= {"no_traffic_interval": "0.5s", "grpc_health_check": {}}
    options = {"@type": f"type.googleapis.com/{_HTTP}", "explicit_http_config": {"http2_protocol_options": {}}}
    pipes = [{"endpoint": {"address": {"pipe": {"path": path}}}} for path in sockets]
    return {
        "name": DATAPLANE,
        "type": "STATIC",
        "connect_timeout": "0.1s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [check],
        "typed_extension_protocol_options": {_HTTP: options},
        "load_assignment": {"cluster_name": DATAPLANE, "endpoints": [{"lb_endpoints": pipes}]},
    }


def _admin(port: int) -> Json:
    return _cluster("admin", LOOPBACK, port)


def _cluster(name: str, host: str, port: int) -> Json:
    endpoint = {"endpoint": {"address": _socket(host, port)}}
    # By default only IPv6 addresses are tried where a name has both kinds, and many a server listens on one alone.
    kind = {"type": "STATIC"} if is_literal(host) else {"type": "STRICT_DNS", "dns_lookup_family": "ALL"}
    return {
        "name": name,
        **kind,
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _stats_listener(host: str, port: int) -> Json:
    manager = {
        "@type": f"type.googleapis.com/{_MANAGER}",
        "stat_prefix": "stats",
        "request_headers_timeout": "5s",
        "route_config": {"virtual_hosts": [{"name": "stats", "domains": ["*"], "routes": _shown()}]},
        "http_filters": [{"name": _ROUTER, "typed_config": {"@type": f"type.googleapis.com/{_ROUTER}"}}],
    }
    return {
        "name": "stats",
        "address": _socket(host, port),
        "ignore_global_conn_limit": True,
        "filter_chains": [{"filters": [{"name": _MANAGER, "typed_config": manager}]}],
    }


def _shown() -> list[Json]:
    matches: list[Json] = [{"path": path} for path in SHOWN]
    matches += [
        {"path": "/config_dump", "query_parameters": [{"name": "resource", "string_match": {"exact": part}}]}
        for part in DUMPED
    ]
    routes: list[Json] = [
        {
            "match": {**match, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
            "route": {"cluster": "admin", "timeout": "5s"},
        }
        for match in matches
    ]
    return [*routes, {"match": {"prefix": "/"}, "direct_response": {"status": 404}}]


def _limits() -> list[Json]:
    """What the times that are told are sorted by."""
    matches = ({"prefix": f"{STATISTICS}."}, {"suffix": "upstream_rq_time"})
    return [{"match": match, "buckets": list(BUCKETS)} for match in matches]


def _socket(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}
