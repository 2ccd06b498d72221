"""The entrance: one listener, its HTTP settings, and the filters that every request passes."""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.message import Message

from weighbridge_operator.xds.build import Json, extension, message
from weighbridge_operator.xds.cluster import ADS
from weighbridge_operator.xds.keys import ask_for_keys
from weighbridge_operator.xds.names import CERTIFICATE, LISTENER, ROUTES, UNKNOWN
from weighbridge_operator.xds.paths import READ_LIMIT, USUAL, word_of
from weighbridge_operator.xds.precise import ask_dataplane
from weighbridge_operator.xds.replies import local_replies
from weighbridge_operator.xds.request_log import RequestLog, write_requests
from weighbridge_operator.xds.scripts import write_entrance, write_unknown, write_usual
from weighbridge_operator.xds.statistics import count_requests
from weighbridge_operator.xds.tokens import read_tokens


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where callers come in. `host` is an IP literal; `tls`: over HTTPS alone; `keys`: with a key alone.

    `name`: letters and digits that no other gateway calls itself by, so that a request that comes back is known.
    `debug_headers`: answers tell which node and policy served them. `requests`: where each is written down.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    debug_headers: bool = True
    tls: bool = False
    keys: bool = False
    requests: RequestLog | None = None
    name: str = "weighbridge"


_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LUA = "envoy.extensions.filters.http.lua.v3.Lua"
_TLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def translate_listener(entrance: Entrance, asks: bool = False) -> Message:
    """The listener. Certificates and keys stand elsewhere, so that a change of them replaces no listener.

    `asks`: some route asks the data plane.
    """
    manager = extension("envoy.filters.network.http_connection_manager", _MANAGER, _http(entrance, asks))
    chain: Json = {"filters": [manager]}
    if entrance.tls:
        chain["transport_socket"] = extension("envoy.transport_sockets.tls", _TLS, _tls())
    return message(
        Listener,
        {
            "name": LISTENER,
            "address": {"socket_address": {"address": entrance.host, "port_value": entrance.port}},
            # Also what a slow reader may leave unread before its node is made to wait.
            "per_connection_buffer_limit_bytes": READ_LIMIT,
            "filter_chains": [chain],
        },
    )


def _tls() -> Json:
    # Without a time limit: until there is a certificate, the listener does not open.
    source = {"name": CERTIFICATE, "sds_config": {**ADS, "initial_fetch_timeout": "0s"}}
    return {
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [source],
        }
    }


def _scripts(entrance: Entrance) -> Json:
    """What every request passes; and what a route can name to be passed in its place, or by its answers alone."""
    logged = entrance.requests is not None
    named = {word_of(kind): write_usual(word_of(kind), logged) for kind in USUAL} | {UNKNOWN: write_unknown()}
    return {
        "default_source_code": {"inline_string": write_entrance(logged)},
        "source_codes": {name: {"inline_string": script} for name, script in named.items()},
    }


def _http(entrance: Entrance, asks: bool) -> Json:
    keys, requests = entrance.keys, entrance.requests
    return {
        "stat_prefix": "entrance",
        "rds": {"route_config_name": ROUTES, "config_source": ADS},
        "use_remote_address": True,
        "skip_xff_append": True,  # no node is told callers' addresses, so none need be written
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "always_set_request_id_in_response": True,
        "server_header_transformation": "APPEND_IF_ABSENT",
        "server_name": "weighbridge",
        # Silence and length are bounded on the routes, where it is known whether the answer is a stream.
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "15s",
        "request_timeout": "300s",
        "common_http_protocol_options": {
            "idle_timeout": "600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 100,
        },
        "http2_protocol_options": {"max_concurrent_streams": 1000},
        "local_reply_config": local_replies(),
        "access_log": [count_requests(), *([write_requests(requests, keys)] if requests else [])],
        "http_filters": [
            ask_for_keys(keys),
            extension("envoy.filters.http.lua", _LUA, _scripts(entrance)),
            *([read_tokens()] if requests and requests.tokens else []),
            *(ask_dataplane() if asks else []),
            extension("envoy.filters.http.router", _ROUTER, {"suppress_envoy_headers": True}),
        ],
    }
