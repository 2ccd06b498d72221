"""Callers' keys: Envoy's own filter compares them, before anything else is looked at.

The keys stand with the routes, not in the listener, so that a change of them replaces no listener and cuts no stream.
The key is taken off the request at once, and in its place stands whose it is, for filters that come later.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/api_key_auth_filter
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from envoy.extensions.filters.http.api_key_auth.v3.api_key_auth_pb2 import (
    ApiKeyAuthPerRoute,
    Credential,
    Forwarding,
    KeySource,
)
from google.protobuf.any_pb2 import Any as Any_
from google.protobuf.message import Message

from weighbridge_operator.xds.build import Json, extension
from weighbridge_operator.xds.names import CLIENT_HEADER

Callers = Sequence[tuple[str, str]]  # client, key
FILTER = "envoy.filters.http.api_key_auth"
_SOURCES = [{"header": "Authorization"}, {"header": "x-api-key"}, {"header": "x-goog-api-key"}, {"query": "key"}]
#: The filter takes off `Bearer ` alone. As others write it, scheme and key are compared as one, which costs a request
#: nothing; spelled in yet another way the scheme is told with the refusal.
SMALL = "bearer "
_KIND = "envoy.extensions.filters.http.api_key_auth.v3"


def ask_for_keys(always: bool) -> Json:
    """The filter, which by itself knows no key and lets nobody in. `Bearer` before the key is understood.

    The key may come as OpenAI's, Anthropic's and Gemini's clients send it, on any path; the first that is there counts.
    `always`: also where the routes say nothing of keys. It is in every listener, so that keys are asked for as soon as
    the routes say so, whatever becomes of a new listener.
    """
    found = extension(FILTER, f"{_KIND}.ApiKeyAuth", {"key_sources": _SOURCES})
    return found if always else {**found, "disabled": True}


def let_in(callers: Callers) -> Message:
    """What a virtual host says to the filter, as an `Any`: these keys.

    Made without the detour over JSON, because there may be thousands.
    """
    # Nothing but what stands here counts where there is anything: the filter's own forwarding would be forgotten.
    settings = ApiKeyAuthPerRoute(
        credentials=[Credential(key=told, client=client) for client, key in callers for told in (key, SMALL + key)],
        key_sources=[KeySource(**source) for source in _SOURCES],
        forwarding=Forwarding(header=CLIENT_HEADER, hide_credentials=True),
    )
    made = Any_()
    made.Pack(settings, deterministic=True)
    return cast(Message, made)
