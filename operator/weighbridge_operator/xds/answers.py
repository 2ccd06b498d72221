"""What the gateway answers by itself: errors that name what there is, and the list of models."""

from __future__ import annotations

import json
from collections.abc import Iterable

from weighbridge_operator.core import ir
from weighbridge_operator.xds.build import Json, packed
from weighbridge_operator.xds.errors import error
from weighbridge_operator.xds.names import ROUTE_HEADER, UNKNOWN
from weighbridge_operator.xds.paths import GEMINI, GEMINI_KIND, PATHS, Path

MOST_NAMES = 50  # in one message
MOST_VERSIONS = 8  # of one model in it
MOST_MODELS = 10_000  # in one list


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


def models_of(gateway: ir.Gateway, kind: ir.Kind) -> list[str]:
    """What callers may ask for in requests of this kind, versions left out."""
    return [e.key for e in gateway.entries if e.kind == kind and e.key and "@" not in e.key]


def unknown_model(gateway: ir.Gateway, kind: ir.Kind) -> Json:
    """Of a request for a model, or for a version of one, that is not served."""
    message = f"The model does not exist here for {kind} requests. There are: {_list_models(gateway, kind)}."
    return _name_model(refuse(404, message, "model_not_found", kind.format, param="model"), ROUTE_HEADER)


def unknown_card(gateway: ir.Gateway) -> Json:
    """The same of /v1/models/NAME."""
    names = list_names(name for name in model_cards(gateway) if "@" not in name)
    message = f"The model does not exist here. There are: {names}."
    return _name_model(refuse(404, message, "model_not_found"), ":path")


def _name_model(answer: Json, header: str) -> Json:
    """Puts the name of the model into the message, which unknown.lua reads from a request's header."""
    told = {"header": {"key": ROUTE_HEADER, "value": f"%REQ({header})%"}}
    script = packed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", {"name": UNKNOWN})
    return {
        **answer,
        "response_headers_to_add": [*answer["response_headers_to_add"], told],
        "typed_per_filter_config": {"envoy.filters.http.lua": script},
    }


def _list_models(gateway: ir.Gateway, kind: ir.Kind) -> str:
    """Each model of the kind with its versions, bounded."""
    keys = [entry.key for entry in gateway.entries if entry.kind == kind and entry.key]
    versions: dict[str, list[str]] = {name: [] for name in keys if "@" not in name}
    for key in keys:
        name, _, version = key.partition("@")
        if version:
            versions.setdefault(name, []).append(f"@{version}")
    told = {name: f" ({', '.join(each[:MOST_VERSIONS])})" if each else "" for name, each in versions.items()}
    return list_names(f"{name}{told[name]}" for name in versions)


def missing_model(gateway: ir.Gateway, kind: ir.Kind) -> Json:
    message = f"Name a model: several serve {kind} requests. There are: {list_names(models_of(gateway, kind))}."
    return refuse(400, message, "missing_model", kind.format, param="model")


def unserved_kind(gateway: ir.Gateway, kind: ir.Kind) -> Json:
    message = f"No node serves {kind} requests. Served here: {_list_kinds(gateway)}."
    return refuse(404, message, "type_not_served", kind.format)


def unknown_path(gateway: ir.Gateway, api: ir.Format = "openai") -> Json:
    served = [path.path for path in PATHS if path.kind in gateway.kinds]
    served += [f"{GEMINI}MODEL:generateContent"] if GEMINI_KIND in gateway.kinds else []
    message = (
        f"There is nothing at this address. Types served here: {_list_kinds(gateway)}; "
        f"paths: {', '.join([*served, '/v1/models'])}."
    )
    return refuse(404, message, "unknown_path", api)


def trailing_slash(path: Path) -> Json:
    message = f"There is nothing at {path.path}/: ask for {path.path}, without the slash at its end."
    return refuse(404, message, "unknown_path", path.format)


def wrong_method(*allowed: str, api: ir.Format = "openai") -> Json:
    """Of a method that is none of those the address takes; the first of these is what it is asked with."""
    answer = refuse(405, f"Use {allowed[0]} for this address.", "method_not_allowed", api)
    told = {"header": {"key": "allow", "value": ", ".join(allowed)}}  # RFC 9110, 15.5.6
    return {**answer, "response_headers_to_add": [*answer["response_headers_to_add"], told]}


def too_large(limit: int, api: ir.Format = "openai") -> Json:
    """Of a body that is announced as longer than `limit` bytes. Where it turns out so, replies.py has these words."""
    return refuse(413, f"The body is larger than {limit >> 20} MiB.", "request_too_large", api)


def shut(api: ir.Format = "openai") -> Json:
    """Of a request in plain HTTP, while the entrance that takes HTTPS alone is not open yet."""
    message = (
        "This gateway takes HTTPS alone. Where nothing answers at https:// yet, it has no good certificate: "
        "whoever runs it reads why in `weighbridge status`."
    )
    return refuse(503, message, "entrance_shut", api)


def refuse(status: int, message: str, code: str, api: ir.Format = "openai", param: str | None = None) -> Json:
    """A route that answers with an error in the API's shape."""
    return direct(status, error(message, code, status, api, param))


def _list_kinds(gateway: ir.Gateway) -> str:
    return list_names(str(kind) for kind in gateway.kinds)


def model_cards(gateway: ir.Gateway) -> dict[str, Json]:
    """What /v1/models tells of each model, by id, at most MOST_MODELS."""
    ids = sorted({entry.key for entry in gateway.entries if entry.key})[:MOST_MODELS]
    return {name: {"id": name, "object": "model", "created": 0, "owned_by": "weighbridge"} for name in ids}
