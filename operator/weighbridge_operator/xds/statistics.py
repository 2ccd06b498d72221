"""What Envoy counts of requests beside its own statistics: how many, by model and node, and when answers began.

How long requests took it knows by itself, for each cluster; here it would cost a further microsecond.

Written by its access logger for statistics. Everything in a label is configuration of ours or a status code, so that
callers can make no series; above MOST of them, which is told, the rest is not counted. A label costs 0.5 us a request,
so that type, mode and model are one, the name of the route; who prints the page takes it apart (`LABELS`).
https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/access_loggers/stats/v3/stats.proto
"""

from __future__ import annotations

from weighbridge_operator.core import ir
from weighbridge_operator.xds.build import Json, first_known, untyped
from weighbridge_operator.xds.names import METADATA, STATISTICS
from weighbridge_operator.xds.paths import word_of

MOST = 10_000  # counters of one Envoy: each model with each node and status that it met
MOST_HISTOGRAMS = 2_000  # one for each model and mode
ROUTE = "route"
#: What the label `route` says, "text stream qwen2.5-7b": parts that are not known are missing at the end.
LABELS = ("type", "mode", "model")
#: Until the first byte of the body: heads come at once, tokens later. Of answers that no node gave, the whole time.
_FIRST = first_known(("COMMON_DURATION", "DS_RX_BEG:US_RX_BODY_BEG:ms"), ("DURATION", ""))
_KIND = "envoy.extensions.access_loggers.stats.v3.Config"


def count_requests() -> Json:
    """The access logger."""
    route = {"name": ROUTE, "value_format": "%ROUTE_NAME%"}
    node = {"name": "node", "value_format": f"%METADATA(UPSTREAM_HOST:{METADATA}:node)%"}
    code = {"name": "code", "value_format": "%RESPONSE_CODE%"}
    scope = {
        "prefix": STATISTICS,
        # One for all listeners, so that a listener that replaces another counts on; what is silent for two days goes.
        "sharing_name": STATISTICS,
        "enable_eviction": True,
        "max_counters": MOST,
        "max_histograms": MOST_HISTOGRAMS,
    }
    requests = {"stat": {"name": "requests_total", "tags": [route, node, code]}, "value_fixed": 1}
    first = {"stat": {"name": "first_byte_time", "tags": [route]}, "unit": "Milliseconds", "value_format": _FIRST}
    return untyped(
        "envoy.access_loggers.stats", _KIND, {"stats_scope": scope, "counters": [requests], "histograms": [first]}
    )


def name_route(route: Json, entry: ir.Entry, rule: ir.Rule, mode: str) -> Json:
    """What the request log says of a route's requests, and the name by which statistics count them."""
    model = entry.key or rule.default or ""
    facts: Json = {"type": entry.kind.type, "format": entry.kind.format, "stream": mode == "stream"}
    if rule.policy is not None:
        facts["policy"] = rule.policy
    told = route.get("metadata", {}).get("filter_metadata", {})
    name = f"{word_of(entry.kind)} {mode} {model}"
    return {**route, "name": name, "metadata": {"filter_metadata": {**told, METADATA: facts}}}


def name_refusal(answer: Json, kind: ir.Kind) -> Json:
    """The model is not named: a caller may have invented it."""
    facts = {"type": kind.type, "format": kind.format}
    return {**answer, "name": word_of(kind), "metadata": {"filter_metadata": {METADATA: facts}}}
