"""The entrance: one listener, its HTTP settings, and the filters that every request passes."""

from __future__ import annotations

from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.message import Message

from weighbridge_operator.xds.answers import local_replies
from weighbridge_operator.xds.build import Json, extension, message
from weighbridge_operator.xds.cluster import ADS, read_script
from weighbridge_operator.xds.names import LISTENER, ROUTES

#: Bytes of a request's body; one more is 413. Clients of coding agents send megabytes.
BODY_LIMIT = 16 * 2**20
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LUA = "envoy.extensions.filters.http.lua.v3.Lua"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def translate_listener(host: str, port: int) -> Message:
    """The listener on `host` (an IP literal) and `port`."""
    manager = extension("envoy.filters.network.http_connection_manager", _MANAGER, _http())
    return message(
        Listener,
        {
            "name": LISTENER,
            "address": {"socket_address": {"address": host, "port_value": port}},
            # Also what a slow reader may leave unread before its node is made to wait.
            "per_connection_buffer_limit_bytes": BODY_LIMIT,
            "filter_chains": [{"filters": [manager]}],
        },
    )


def _http() -> Json:
    return {
        "stat_prefix": "entrance",
        "rds": {"route_config_name": ROUTES, "config_source": ADS},
        "use_remote_address": True,
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
        "http_filters": [
            extension(
                "envoy.filters.http.lua", _LUA, {"default_source_code": {"inline_string": read_script("entrance.lua")}}
            ),
            extension("envoy.filters.http.router", _ROUTER, {"suppress_envoy_headers": True}),
        ],
    }
