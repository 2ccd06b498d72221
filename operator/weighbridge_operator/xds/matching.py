"""Matchers of the route table: maps that are looked up once, however many entries they have."""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge_operator.xds.build import Json, extension, packed


def on(*routes: Json) -> Json:
    if len(routes) == 1:
        return {"action": extension("route", "envoy.config.route.v3.Route", routes[0])}
    return {"action": extension("routes", "envoy.config.route.v3.RouteList", {"routes": list(routes)})}


def nested(matcher: Json) -> Json:
    return {"matcher": matcher}


def by_prefix(header: str, table: Mapping[str, Json]) -> Json:
    return {"matcher_tree": {"input": _read(header), "prefix_match_map": {"map": dict(sorted(table.items()))}}}


def by_whole(header: str, table: Mapping[str, Json]) -> Json:
    return {"matcher_tree": {"input": _read(header), "exact_match_map": {"map": dict(sorted(table.items()))}}}


def by_path(table: Mapping[str, Json]) -> Json:
    return by_whole(":path", table)


def _read(header: str) -> Json:
    return {
        "name": "header",
        "typed_config": packed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", {"header_name": header}),
    }
