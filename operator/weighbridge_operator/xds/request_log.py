"""The request log: one line of JSON for each request, written by Envoy itself.

What a caller invents stands in one field, `model`, of which entrance.lua takes 400 plain characters at most. All else
is configuration of ours, a number, or a word of Envoy's: no path, no query, no header that a caller can write. Lines
are bounded. https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge_operator.xds.build import Json, extension, first_known
from weighbridge_operator.xds.names import ASKED, CLIENT_HEADER, METADATA

VERSION = 1  # of the line: raised when a field goes or changes its meaning
STDOUT = "-"
_FILE = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
_STREAM = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"


@dataclass(frozen=True, slots=True)
class RequestLog:
    """`place`: a path on Envoy's machine, or "-" for its standard output. `tokens`: read them from the answers."""

    place: str
    tokens: bool = False


#: Field -> Envoy's command operator. A field that is not known is left out of the line.
FIELDS: dict[str, str | int] = {
    "v": VERSION,
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "id": "%REQ(x-request-id)%",
    "type": f"%METADATA(ROUTE:{METADATA}:type)%",
    "format": f"%METADATA(ROUTE:{METADATA}:format)%",
    "stream": f"%METADATA(ROUTE:{METADATA}:stream)%",
    "model": f"%DYNAMIC_METADATA({ASKED}:request:model)%",
    "policy": f"%METADATA(ROUTE:{METADATA}:policy)%",
    "node": f"%METADATA(UPSTREAM_HOST:{METADATA}:node)%",
    "endpoint": "%UPSTREAM_HOST%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "first_byte_ms": "%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ms)%",
    "first_data_ms": "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}
#: The entrance's word of requests for models; of others the header is still there.
_CALLER = {"caller": first_known(("DYNAMIC_METADATA", f"{ASKED}:request:caller"), ("REQ", CLIENT_HEADER))}
_TOKENS = {name: f"%DYNAMIC_METADATA({ASKED}:answer:{name})%" for name in ("tokens_in", "tokens_out")}


def write_requests(log: RequestLog, keys: bool) -> Json:
    """The access logger. `keys`: callers are asked for one, so that it is known who they are."""
    fields = FIELDS | (_CALLER if keys else {}) | (_TOKENS if log.tokens else {})
    form = {"json_format": fields, "omit_empty_values": True}
    if log.place == STDOUT:
        return extension("envoy.access_loggers.stdout", _STREAM, {"log_format": form})
    return extension("envoy.access_loggers.file", _FILE, {"path": log.place, "log_format": form})
