"""What the gateway answers by itself, in OpenAI's error shape, so that official clients raise their own exceptions."""

from __future__ import annotations

import json
from collections.abc import Iterable

from weighbridge_operator.core import ir
from weighbridge_operator.xds.build import Json, extension
from weighbridge_operator.xds.paths import BODY_LIMIT, FORM_LIMIT, PATHS

MOST_NAMES = 50  # in one message
MOST_MODELS = 10_000  # in one list
#: Response flags and what they mean for a caller: status (None keeps Envoy's), message, code.
_FLAGS: tuple[tuple[tuple[str, ...], int | None, str, str], ...] = (
    (("UH", "NC"), 503, "No node that can serve this request is available. Try again soon.", "no_node_available"),
    (("UO",), 503, "The nodes for this request have all they can take. Try again soon.", "overloaded"),
    (("UT", "SI", "UMSDR", "DT"), 504, "The node did not answer in time.", "timeout"),
    (("UF", "UC", "UR", "LR", "URX", "UPE"), 503, "The node failed before it answered.", "node_failed"),
    (("DPE", "IH"), None, "The gateway does not accept this HTTP request.", "invalid_http"),
    (("NR",), 404, "There is nothing at this address.", "not_found"),
)
#: Envoy's refusals without a flag, by status; None is any other.
_REFUSALS: tuple[tuple[int | None, str, str], ...] = (
    (408, "The request took too long to arrive.", "request_timeout"),
    (426, "Use HTTP/1.1 or HTTP/2.", "invalid_http"),
    (431, "The headers are too large or too many.", "headers_too_large"),
    (None, "The gateway does not accept this HTTP request.", "invalid_http"),
)
#: The key filter's refusals, by response code details.
_KEYS: tuple[tuple[str, str, str], ...] = (
    ("missing_api_key", "Send your API key: Authorization: Bearer KEY.", "missing_api_key"),
    ("unknown_api_key", "This API key is not known here.", "invalid_api_key"),
)
#: The entrance's own answers, which have their body already, are local replies too.
_NOT_WORDED = 'response.code_details != "lua_response" && response.code_details != "direct_response"'


def error(message: str, code: str, kind: str = "invalid_request_error", param: str | None = None) -> Json:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def local_replies(keys: bool) -> Json:
    """How Envoy's own failures are worded: a LocalReplyConfig. `keys`: callers are asked for one."""
    mappers = [
        {
            "filter": {"response_flag_filter": {"flags": list(flags)}},
            **({"status_code": status} if status else {}),
            "body_format_override": {
                "json_format": error(message, code, "api_error" if (status or 0) >= 500 else "invalid_request_error")
            },
        }
        for flags, status, message, code in _FLAGS
    ]
    mappers[:0] = [
        _refuse_size(FORM_LIMIT, _path("|".join(path.path for path in PATHS if path.form))),
        _refuse_size(BODY_LIMIT),
    ]
    if keys:
        mappers[:0] = [_refuse_key(details, message, code) for details, message, code in _KEYS]
    not_worded = _cel(_NOT_WORDED)
    for status, message, code in _REFUSALS:
        wanted = {"and_filter": {"filters": [_status(status), not_worded]}} if status else not_worded
        mappers.append({"filter": wanted, "body_format_override": {"json_format": error(message, code)}})
    return {"mappers": mappers}


def _refuse_size(limit: int, *conditions: Json) -> Json:
    told = error(f"The body is larger than {limit >> 20} MiB.", "request_too_large")
    wanted = {"and_filter": {"filters": [_status(413), *conditions]}} if conditions else _status(413)
    return {"filter": wanted, "body_format_override": {"json_format": told}}


def _path(pattern: str) -> Json:
    matched = {"safe_regex": {"regex": f"({pattern})([?].*)?"}}
    return {"header_filter": {"header": {"name": ":path", "string_match": matched}}}


def _refuse_key(details: str, message: str, code: str) -> Json:
    # RFC 9110: a 401 says how to authenticate.
    challenge = {"header": {"key": "www-authenticate", "value": "Bearer"}}
    return {
        "filter": {"and_filter": {"filters": [_status(401), _cel(f'response.code_details == "{details}"')]}},
        "headers_to_add": [challenge],
        "body_format_override": {"json_format": error(message, code)},
    }


def _cel(expression: str) -> Json:
    kind = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    return {"extension_filter": extension("cel", kind, {"expression": expression})}


def _status(code: int) -> Json:
    value = {"default_value": code, "runtime_key": "weighbridge.unset"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def direct(status: int, body: Json) -> Json:
    """A route that answers by itself."""
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": json.dumps(body, separators=(",", ":"))}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def list_names(names: Iterable[str]) -> str:
    """A bounded enumeration."""
    known = sorted(names)
    if not known:
        return "none"
    shown = ", ".join(known[:MOST_NAMES])
    return shown if len(known) <= MOST_NAMES else f"{shown} and {len(known) - MOST_NAMES} more"


def models_of(gateway: ir.Gateway, kind: str) -> list[str]:
    """What callers may ask for in requests of this type, versions left out."""
    return [e.key for e in gateway.entries if e.type == kind and e.key and "@" not in e.key]


def unknown_model(gateway: ir.Gateway, kind: str) -> Json:
    names = list_names(models_of(gateway, kind))
    message = f"The model does not exist here for {kind} requests. There are: {names}."
    return direct(404, error(message, "model_not_found", param="model"))


def missing_model(gateway: ir.Gateway, kind: str) -> Json:
    message = f"Name a model: several serve {kind} requests. There are: {list_names(models_of(gateway, kind))}."
    return direct(400, error(message, "missing_model", param="model"))


def unserved_type(gateway: ir.Gateway, kind: str) -> Json:
    message = f"No node serves {kind} requests. Served here: {list_names(gateway.types)}."
    return direct(404, error(message, "type_not_served"))


def unknown_path(gateway: ir.Gateway) -> Json:
    served = [path.path for path in PATHS if path.type in gateway.types]
    message = (
        f"There is nothing at this address. Types served here: {list_names(gateway.types)}; "
        f"paths: {', '.join([*served, '/v1/models'])}."
    )
    return direct(404, error(message, "unknown_path"))


def wrong_method(allowed: str) -> Json:
    return direct(405, error(f"Use {allowed} for this address.", "method_not_allowed"))


def model_cards(gateway: ir.Gateway) -> dict[str, Json]:
    """What /v1/models tells of each model, by id, at most MOST_MODELS."""
    ids = sorted({entry.key for entry in gateway.entries if entry.key})[:MOST_MODELS]
    return {name: {"id": name, "object": "model", "created": 0, "owned_by": "weighbridge"} for name in ids}
