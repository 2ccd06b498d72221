"""What answers say of their tokens, for the request log: read from their ends, as they pass, by a script.

Envoy's own filters for this (json_to_metadata, sse_to_metadata) keep a whole answer until it is complete, refuse one
beyond the buffer's limit with 500, and read all of it as JSON.
"""

from __future__ import annotations

from weighbridge_operator.xds.build import Json, extension
from weighbridge_operator.xds.scripts import write_tokens

_FILTER = "weighbridge.tokens"  # a name of its own: routes name scripts for the entrance's
_LUA = "envoy.extensions.filters.http.lua.v3.Lua"


def read_tokens() -> Json:
    """The filter."""
    return extension(_FILTER, _LUA, {"default_source_code": {"inline_string": write_tokens()}})
