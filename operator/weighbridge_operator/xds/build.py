"""Envoy messages from the JSON that Envoy's documentation speaks, packed in one place and checked by the descriptors.

`message(Cluster, {...})` raises ParseError on a field that the type doesn't have. Where a field is an `Any`, the value
is `packed("envoy....Type", {...})`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

# Registers every type that is only ever packed into an `Any`.
from envoy.config.route.v3 import route_components_pb2 as _route  # noqa: F401
from envoy.extensions.access_loggers.file.v3 import file_pb2 as _file  # noqa: F401
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2 as _cel  # noqa: F401
from envoy.extensions.access_loggers.stream.v3 import stream_pb2 as _stream  # noqa: F401
from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as _aggregate  # noqa: F401
from envoy.extensions.common.matching.v3 import extension_matcher_pb2 as _matching  # noqa: F401
from envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2 as _skip  # noqa: F401
from envoy.extensions.filters.http.api_key_auth.v3 import api_key_auth_pb2 as _keys  # noqa: F401
from envoy.extensions.filters.http.composite.v3 import composite_pb2 as _composite_filter  # noqa: F401
from envoy.extensions.filters.http.credential_injector.v3 import credential_injector_pb2 as _credential  # noqa: F401
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2 as _ext_proc  # noqa: F401
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as _mutation  # noqa: F401
from envoy.extensions.filters.http.lua.v3 import lua_pb2 as _lua  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2 as _router  # noqa: F401
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2 as _codec  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2 as _manager,
)
from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2 as _generic  # noqa: F401
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2 as _least  # noqa: F401
from envoy.extensions.load_balancing_policies.override_host.v3 import override_host_pb2 as _override  # noqa: F401
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as _previous  # noqa: F401
from envoy.extensions.retry.priority.previous_priorities.v3 import (  # noqa: F401
    previous_priorities_config_pb2 as _priorities,
)
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as _tls  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as _options  # noqa: F401
from envoy.type.matcher.v3 import http_inputs_pb2 as _inputs  # noqa: F401
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as Any_
from google.protobuf.message import Message
from xds.type.v3 import typed_struct_pb2 as _struct  # noqa: F401

from weighbridge_operator.xds import composite as _composite  # noqa: F401

Json = dict[str, Any]


def message(kind: Any, fields: Mapping[str, Any]) -> Message:
    """A message of `kind` with these fields, named as in the .proto. Raises google.protobuf.json_format.ParseError."""
    made = cast(Message, json_format.ParseDict(dict(fields), kind()))
    _order(made)
    return made


def _order(value: Message) -> None:
    """Serialises what is packed once more, with its maps in order: else each process would make other bytes of it."""
    for field, found in value.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = [part for part in found.values() if isinstance(part, Message)]
        else:
            parts = [found] if isinstance(found, Message) else list(found)
        for part in parts:
            if isinstance(part, Any_):
                kind = descriptor_pool.Default().FindMessageTypeByName(part.TypeName())
                inner = message_factory.GetMessageClass(kind)()
                inner.ParseFromString(part.value)
                _order(inner)
                part.value = inner.SerializeToString(deterministic=True)
            else:
                _order(part)


def packed(name: str, fields: Mapping[str, Any] | None = None) -> Json:
    """An `Any` of type `name` ("envoy....")."""
    return {"@type": f"type.googleapis.com/{name}", **(fields or {})}


def extension(name: str, kind: str, fields: Mapping[str, Any] | None = None) -> Json:
    """A TypedExtensionConfig, or a filter: its name and its packed configuration."""
    return {"name": name, "typed_config": packed(kind, fields)}


def untyped(name: str, kind: str, fields: Mapping[str, Any]) -> Json:
    """An extension whose type these descriptors do not know: Envoy reads the fields, and refuses what it can't read."""
    return extension(
        name, "xds.type.v3.TypedStruct", {"type_url": f"type.googleapis.com/{kind}", "value": dict(fields)}
    )


def header_predicate(name: str, value: Json) -> Json:
    """A matcher's predicate: a request has the header, and its value matches this StringMatcher."""
    read = packed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", {"header_name": name})
    return {"single_predicate": {"input": {"name": "header", "typed_config": read}, "value_match": value}}


def matched_filter(name: str, inner: Json, predicate: Json, action: Json) -> Json:
    """The filter `inner` behind a matcher that does `action` to it where `predicate` holds."""
    kind = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
    matchers = [{"predicate": predicate, "on_match": {"action": action}}]
    return extension(name, kind, {"extension_config": inner, "xds_matcher": {"matcher_list": {"matchers": matchers}}})


def first_known(*operators: tuple[str, str]) -> str:
    """The command operator that says the first of these, each with its parameter, that is known."""
    listed = [{"command": command, **({"param": param} if param else {})} for command, param in operators]
    return f"%COALESCE({json.dumps({'operators': listed}, separators=(',', ':'))})%"


def seconds(value: float) -> str:
    """A protobuf duration."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
