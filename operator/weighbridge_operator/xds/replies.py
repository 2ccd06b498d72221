"""How Envoy's own failures are worded, in the shape of the API that the request was made with."""

from __future__ import annotations

from weighbridge_operator.core.ir import Format
from weighbridge_operator.xds.build import Json, extension
from weighbridge_operator.xds.errors import error
from weighbridge_operator.xds.paths import BODY_LIMIT, FORM_LIMIT, GEMINI_METHODS, GEMINI_ROOTS, PATHS

_LATER: Json = {"headers_to_add": [{"header": {"key": "retry-after", "value": "2"}}]}  # seconds
#: Response flags and what they mean for a caller: status (None keeps Envoy's), message, code.
_FLAGS: tuple[tuple[tuple[str, ...], int | None, str, str], ...] = (
    (("UH", "NC"), 503, "No node that can serve this request is available. Try again soon.", "no_node_available"),
    (("UO",), 503, "The nodes for this request have all they can take. Try again soon.", "overloaded"),
    (("UT", "SI", "UMSDR", "DT"), 504, "The node did not answer in time.", "timeout"),
    (("UF", "UC", "UR", "LR", "URX", "UPE"), 503, "The node failed before it answered.", "node_failed"),
    (("DPE", "IH"), None, "The gateway does not accept this HTTP request.", "invalid_http"),
    (("NR",), 404, "There is nothing at this address.", "not_found"),
)
FAILURES = 500  # this status and all above
#: Envoy's refusals without a flag, by status, None is any other; the status for the caller (None keeps Envoy's).
_REFUSALS: tuple[tuple[int | None, int | None, str, str], ...] = (
    (408, None, "The request took too long to arrive.", "request_timeout"),
    (426, None, "Use HTTP/1.1 or HTTP/2.", "invalid_http"),
    (431, None, "The headers are too large or too many.", "headers_too_large"),
    (504, None, "The node did not answer in time.", "timeout"),  # a stream's whole time, before its head
    (501, 400, "The gateway reads no such Transfer-Encoding: send chunked alone, or Content-Length.", "invalid_http"),
    (FAILURES, None, "The gateway failed at this request.", "gateway_failed"),
    (None, None, "The gateway does not accept this HTTP request.", "invalid_http"),
)
#: The entrance's own answers, which have their body already, are local replies too.
_NOT_WORDED = 'response.code_details != "lua_response" && response.code_details != "direct_response"'
#: Paths of an API, as callers ask for them and as nodes with another base path are asked.
_PATHS: dict[Format, str] = {
    "anthropic": ".*/messages(/count_tokens)?|/v1/messages/.*",
    "gemini": f".*:({'|'.join(GEMINI_METHODS)})|({'|'.join(GEMINI_ROOTS)}).*",
    "openai": "",
}
_WHERE_KEYS_GO: dict[Format, str] = {
    "anthropic": "x-api-key: KEY",
    "gemini": "x-goog-api-key: KEY",
    "openai": "Authorization: Bearer KEY",
}


def local_replies() -> Json:
    """A LocalReplyConfig."""
    return {"mappers": [mapper for api in _PATHS for mapper in _list_mappers(api)]}


def _list_mappers(api: Format) -> list[Json]:
    """The first that fits is taken."""
    short = error("The gateway is short of memory. Try again soon.", "gateway_overloaded", 503, api)
    mappers = [_word(api, short, _cel('response.code_details == "overload"'), status=503) | _LATER]
    missing = f"Send your API key: {_WHERE_KEYS_GO[api]}."
    mappers.append(_refuse_key(api, "missing_api_key", error(missing, "missing_api_key", 401, api)))
    nobody = error("No API key is good yet at this gateway.", "invalid_api_key", 401, api)
    mappers.append(_refuse_key(api, "missing_credentials", nobody))
    spelled = error("Write the scheme before the key as Bearer or bearer.", "invalid_api_key", 401, api)
    mappers.append(_refuse_key(api, "unknown_api_key", spelled, *_spelled_oddly()))
    unknown = error("This API key is not known here.", "invalid_api_key", 401, api)
    mappers.append(_refuse_key(api, "unknown_api_key", unknown))
    if api == "openai":
        mappers.append(_refuse_size(api, FORM_LIMIT, "|".join(path.path for path in PATHS if path.form)))
    mappers.append(_refuse_size(api, BODY_LIMIT))
    for flags, status, message, code in _FLAGS:
        found = {"response_flag_filter": {"flags": list(flags)}}
        mappers.append(_word(api, error(message, code, status or 400, api), found, status=status))
    for found_status, status, message, code in _REFUSALS:
        filters = [_status(found_status, "GE" if found_status == FAILURES else "EQ")] if found_status else []
        body = error(message, code, status or found_status or 400, api)
        mappers.append(_word(api, body, *filters, _cel(_NOT_WORDED), status=status))
    return mappers


def _word(api: Format, body: Json, *filters: Json, status: int | None = None) -> Json:
    """A mapper for requests of this API to which all filters apply."""
    if api == "gemini":
        body["error"]["code"] = "%RESPONSE_CODE%"  # a number: what stands alone keeps its type
    wanted = [*filters, _path(_PATHS[api])] if _PATHS[api] else list(filters)
    found: Json = {"filter": wanted[0] if len(wanted) == 1 else {"and_filter": {"filters": wanted}}}
    return found | ({"status_code": status} if status else {}) | {"body_format_override": {"json_format": body}}


def _refuse_size(api: Format, limit: int, pattern: str = "") -> Json:
    told = error(f"The body is larger than {limit >> 20} MiB.", "request_too_large", 413, api)
    return _word(api, told, _status(413), *([_path(pattern)] if pattern else []))


def _refuse_key(api: Format, details: str, body: Json, *filters: Json) -> Json:
    # RFC 9110: a 401 says how to authenticate.
    challenge = {"header": {"key": "www-authenticate", "value": "Bearer"}}
    reason = _cel(f'response.code_details == "{details}"')
    return _word(api, body, _status(401), reason, *filters) | {"headers_to_add": [challenge]}


def _spelled_oddly() -> list[Json]:
    """Filters for a scheme that is Bearer and that the keys' filter does not take for it."""
    header = {"name": "authorization"}
    known = [{**header, "string_match": {"prefix": scheme}, "invert_match": True} for scheme in ("Bearer ", "bearer ")]
    return [_header("authorization", "(?i:bearer) .*"), *({"header_filter": {"header": each}} for each in known)]


def _path(pattern: str) -> Json:
    return _header(":path", f"({pattern})([?].*)?")


def _header(name: str, pattern: str) -> Json:
    return {"header_filter": {"header": {"name": name, "string_match": {"safe_regex": {"regex": pattern}}}}}


def _cel(expression: str) -> Json:
    kind = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    return {"extension_filter": extension("cel", kind, {"expression": expression})}


def _status(code: int, operator: str = "EQ") -> Json:
    value = {"default_value": code, "runtime_key": "weighbridge.unset"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}
