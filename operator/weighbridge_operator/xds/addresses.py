"""What is found by address alone: the list of models, wrong methods, and requests whose body is still coming."""

from __future__ import annotations

from urllib.parse import quote

from weighbridge_operator.core import ir
from weighbridge_operator.xds import answers
from weighbridge_operator.xds.build import Json, packed
from weighbridge_operator.xds.matching import by_path, by_prefix, by_whole, nested, on
from weighbridge_operator.xds.names import HOPS_HEADER, ROUTE_HEADER
from weighbridge_operator.xds.paths import (
    BODY_LIMIT,
    GEMINI_KIND,
    GEMINI_PATHS,
    GEMINI_ROOTS,
    PATHS,
    USUAL,
    Path,
    word_of,
)
from weighbridge_operator.xds.statistics import name_refusal

_POST = {"name": ":method", "string_match": {"exact": "POST"}}
_READING = ("GET", "HEAD")
OVER_HTTPS = "https"


def list_paths(gateway: ir.Gateway) -> dict[str, Json]:
    """What is found by its whole path: the list of models, each model, and wrong methods."""
    cards = answers.model_cards(gateway)
    listing = answers.direct(200, {"object": "list", "data": list(cards.values())})
    exact: dict[str, Json] = {"/v1/models": on(_get(listing), answers.wrong_method(*_READING))}
    exact |= {path.path: _at(path) for path in PATHS}
    exact |= {f"{path.path}/": on(answers.trailing_slash(path)) for path in PATHS}
    for name, card in cards.items():
        found = on(_get(answers.direct(200, card)), answers.wrong_method(*_READING))
        exact[f"/v1/models/{name}"] = found
        exact[f"/v1/models/{quote(name, safe='')}"] = found
    return exact


def find_path(gateway: ir.Gateway) -> Json:
    """Everything that is no request for a model. The paths themselves are filled in later."""
    # For GET alone: the answer's script would stand in the place of the entrance's, which Gemini's POST needs here.
    card = _get(answers.unknown_card(gateway)), answers.wrong_method(*_READING)
    rest = {f"{path.path}?": _at(path, query=True) for path in PATHS}
    rest["/v1/models/"] = on(*_gemini(), *card)
    rest |= {root: on(*_gemini(), answers.unknown_path(gateway, "gemini")) for root in GEMINI_ROOTS}
    rest["/v1/messages/"] = on(answers.unknown_path(gateway, "anthropic"))
    unknown = on(answers.unknown_path(gateway))
    return nested({**by_path({}), "on_no_match": nested({**by_prefix(":path", rest), "on_no_match": unknown})})


def guard(found: Json) -> Json:
    """The matcher for who came over HTTPS; everybody else gets 503.

    A listener with HTTPS does not open before Envoy has a certificate that it takes, and an older one serves on
    meanwhile, by these routes: without this in plain text, also to those who were to show a key from now on. Envoy
    writes the header by itself.
    """
    refusals = {root: on(answers.shut("gemini")) for root in GEMINI_ROOTS}
    refusals["/v1/messages"] = on(answers.shut("anthropic"))
    rest = {**by_prefix(":path", refusals), "on_no_match": on(answers.shut())}
    return {**by_whole("x-forwarded-proto", {OVER_HTTPS: nested(found)}), "on_no_match": nested(rest)}


def _at(path: Path, query: bool = False) -> Json:
    """What is found at a path as long as nobody knows the model, and for ever where the request is refused."""
    return on(*(name_refusal(route, path.kind) for route in (*_meanwhile(path, query), _only_post(path))))


def _meanwhile(path: Path, query: bool) -> list[Json]:
    """The routes of a request whose body is still coming: see `_coming`."""
    routes = [_announced(path.limit, path.format), _coming(path.limit)]
    if query or path.form or path.kind not in USUAL:  # a query may hold the caller's key
        return routes
    # A usual request's names the script that reads it.
    plain = {"name": "content-type", "string_match": {"exact": "application/json"}}
    never = [{"name": name, "present_match": True, "invert_match": True} for name in ("content-encoding", HOPS_HEADER)]
    script = packed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", {"name": word_of(path.kind)})
    usual = _coming(BODY_LIMIT, plain, *never)
    large, coming = routes
    return [large, {**usual, "typed_per_filter_config": {"envoy.filters.http.lua": script}}, coming]


def _coming(limit: int, *headers: Json) -> Json:
    """It says how large the body may be, and leads nowhere: the script has another found, or answers itself.

    Only a route that forwards can say so; where nothing is said, the listener's limit holds, which is small.
    """
    nowhere = {"cluster_header": ROUTE_HEADER}
    return {
        "match": {"prefix": "/", "headers": [_POST, *headers]},
        "route": nowhere,
        "request_body_buffer_limit": limit,
    }


def _announced(limit: int, api: ir.Format) -> Json:
    """Of a request that says itself that it is too large: without the script nothing waits for its body."""
    longer = {"name": "content-length", "range_match": {"start": limit + 1, "end": 2**63 - 1}}
    script = packed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", {"disabled": True})
    return {
        **answers.too_large(limit, api),
        "match": {"prefix": "/", "headers": [_POST, longer]},
        "typed_per_filter_config": {"envoy.filters.http.lua": script},
    }


def _gemini() -> list[Json]:
    """The routes of requests for one of Gemini's models, which the entrance's script finds once the body is there."""
    post = [_announced(BODY_LIMIT, "gemini"), _coming(BODY_LIMIT)]
    others = {**answers.wrong_method("POST", api="gemini"), "match": {"headers": [{**_POST, "invert_match": True}]}}
    path = {"safe_regex": {"regex": GEMINI_PATHS}}
    routes = [{**route, "match": {**path, "headers": route["match"]["headers"]}} for route in (*post, others)]
    return [name_refusal(route, GEMINI_KIND) for route in routes]


def _only_post(path: Path) -> Json:
    return answers.wrong_method("POST", api=path.format)


def _get(route: Json) -> Json:
    methods = {"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(_READING)}}}
    return {**route, "match": {"prefix": "/", "headers": [methods]}}
