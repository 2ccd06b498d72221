"""The choice per request: how Envoy asks the data plane beside it, and is told the nodes to choose from.

On a route whose policy says `precise`, ext_proc sends the head of a request to the data plane, and nothing else; other
requests have no ext_proc. The answer names a node in dynamic metadata, which no caller can write; the cluster's policy
`override_host` takes it, and without one falls back to what the cluster does anyway. Of a chain of clusters
`override_host` means nothing (measured, Envoy 1.40): there the answer also names a cluster that tries the node's own
first and then the chain, in a header that is stripped from callers, and the route is found anew. A data plane that is
dead, frozen or late costs a request one time-out at most, and then nothing: a health check of Envoy's takes it out.

What there is to choose from goes to Envoy as a layer of its runtime (RTDS), which the data plane reads at the admin
interface: no second way from the operator, and nothing that serves is touched by it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b

from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf.message import Message

from weighbridge_api.wire import BLOCKS_HEADER, CHOICE, CLUSTER_HEADER, OTHERS, POOL, SESSION_HEADER
from weighbridge_operator.core import ir
from weighbridge_operator.state import LoadRound, Pages
from weighbridge_operator.xds.build import (
    Json,
    extension,
    header_predicate,
    matched_filter,
    message,
    packed,
    seconds,
)
from weighbridge_operator.xds.names import (
    DATAPLANE,
    METADATA,
    OTHERS_LAYER,
    RUNTIME_LAYER,
    print_address,
)
from weighbridge_operator.xds.scripts import write_blocks

FILTER = "envoy.filters.http.ext_proc"
TIMEOUT = 0.02  # seconds that a request waits for a data plane which does not answer
ATTRIBUTE = f"xds.route_metadata.filter_metadata['{METADATA}']['precise']"
#: All that the data plane sees of a request.
HEADERS = ("content-length", "x-request-id", BLOCKS_HEADER, SESSION_HEADER)
BEGINNING = "weighbridge.blocks"  # the filter that says what a request begins with
_KIND = "envoy.extensions.filters.http.ext_proc.v3"
_COMPOSITE = "envoy.extensions.filters.http.composite.v3"
_LUA = "envoy.extensions.filters.http.lua.v3.Lua"


def ask_dataplane() -> list[Json]:
    """The filters: what a request begins with, on routes that say so, and the question, where that was told."""
    return [extension(BEGINNING, _LUA, {"source_codes": {"blocks": {"inline_string": write_blocks()}}}), _ask_told()]


def _ask_told() -> Json:
    """The question, for requests alone of which the script before it has told how they begin.

    Envoy makes a filter for each request, whether its route wants it or not, and this one is dear. What it has for
    leaving one out (`disabled`, `filter_chain`) goes by the route that a request has before the entrance names its own.
    """
    told = header_predicate(BLOCKS_HEADER, {"safe_regex": {"google_re2": {}, "regex": ".*"}})
    ask = extension("ask", f"{_COMPOSITE}.ExecuteFilterAction", {"typed_config": _ask()})
    composite = extension("envoy.filters.http.composite", f"{_COMPOSITE}.Composite")
    return matched_filter(FILTER, composite, told, ask)


def _ask() -> Json:
    matched = [{"exact": name} for name in HEADERS]
    return extension(
        FILTER,
        f"{_KIND}.ExternalProcessor",
        {
            "grpc_service": {"envoy_grpc": {"cluster_name": DATAPLANE}},
            "failure_mode_allow": True,
            "message_timeout": seconds(TIMEOUT),
            "processing_mode": {"request_header_mode": "SEND", "response_header_mode": "SKIP"},
            "request_attributes": [ATTRIBUTE],
            "forward_rules": {"allowed_headers": {"patterns": matched}},
            "mutation_rules": {
                "disallow_all": True,
                "allow_expression": {"regex": f"^{CLUSTER_HEADER}$"},
            },
            "disable_immediate_response": True,
            "metadata_options": {"receiving_namespaces": {"untyped": [CHOICE]}},
        },
    )


def choose_over(policy: Json) -> Json:
    """A cluster's balancing policy under the choice: `policy` decides where no node was named."""
    source = {"metadata": {"key": CHOICE, "path": [{"key": "node"}]}}
    fields = {"override_host_sources": [source], "fallback_policy": {"policies": [{"typed_extension_config": policy}]}}
    kind = "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost"
    return extension("envoy.load_balancing_policies.override_host", kind, fields)


def ask_on(route: Json, clusters: tuple[str, ...], ways: tuple[str, ...], seed: str) -> Json:
    """The route, on which the data plane is asked for a node of these clusters.

    `ways`: for each of them the cluster that the answer names, too; none where the route's own will do. `seed`: by
    which all Envoys hash alike how a request begins, so that their data planes can tell each other; without one each
    Envoy has a key of its own, and they say nothing of it.
    """
    asks: Json = {"clusters": list(clusters), **({"via": list(ways)} if ways else {})}
    script: Json = {"name": "blocks"}
    if seed:
        asks["shared"] = True
        script["filter_context"] = _draw_key(seed)
    policy = json.dumps(asks, separators=(",", ":"))
    told = route["metadata"]["filter_metadata"]
    metadata = {"filter_metadata": {**told, METADATA: {**told[METADATA], "precise": policy}}}
    begins = packed(f"{_LUA}PerRoute", script)
    removed = [*route.get("request_headers_to_remove", ()), BLOCKS_HEADER, SESSION_HEADER]
    filters = {**route.get("typed_per_filter_config", {}), BEGINNING: begins}
    return {**route, "metadata": metadata, "typed_per_filter_config": filters, "request_headers_to_remove": removed}


def _draw_key(seed: str) -> Json:
    """Of 64 bits, for blocks.lua."""
    first, second = struct.unpack(">ii", blake2b(seed.encode(), digest_size=8, person=b"beginnings").digest())
    return {"k0": first, "k1": second}


def go_where_named(route: Json) -> Json:
    """The same route for a request whose cluster was named."""
    named = {"name": CLUSTER_HEADER, "present_match": True}
    match = {**route["match"], "headers": [named, *route["match"].get("headers", ())]}
    action = {k: v for k, v in route["route"].items() if k not in ("cluster", "weighted_clusters")}
    own = (CLUSTER_HEADER, BLOCKS_HEADER, SESSION_HEADER)
    removed = [*route.get("request_headers_to_remove", ()), *own]
    action |= {"cluster_header": CLUSTER_HEADER}
    return {**route, "match": match, "route": action, "request_headers_to_remove": removed}


def list_choices(parts: Mapping[str, ir.Part], pages: Mapping[str, Pages]) -> Message:
    """The runtime layer with the nodes of each cluster (by its name) from which is chosen."""
    fields = {POOL + name: _list_members(part.endpoints, pages) for name, part in parts.items()}
    return message(Runtime, {"name": RUNTIME_LAYER, "layer": dict(sorted(fields.items()))})


def count_others(
    owners: Mapping[tuple[str, str], tuple[str, str]],
    clusters: Collection[str],
    load: LoadRound | None,
    envoys: int,
    suspect: Collection[tuple[str, str]] = (),
) -> Message:
    """The runtime layer with what all Envoys together have in flight, and the nodes whose numbers the weights doubt.

    `owners`: (cluster, address) to (pool, node); `suspect`: such (pool, node). Nothing is said of a cluster where there
    is but one Envoy and no doubt; where counts are not known, they are left out.
    """
    counts = load.inflight if load is not None and envoys > 1 else None
    told: dict[str, Json] = {cluster: {"envoys": envoys, "suspect": []} for cluster in sorted(clusters)}
    for (cluster, address), place in sorted(owners.items()):
        if cluster in told:
            told[cluster]["suspect"] += [address] if place in suspect else []
            if counts is not None:
                told[cluster].setdefault("active", {})[address] = counts.get(place, 0)
    if load is not None and counts is not None:
        told = {cluster: {"at": round(load.at, 1), **each} for cluster, each in told.items()}
    said = {cluster: each for cluster, each in told.items() if envoys > 1 or each["suspect"]}
    fields = {OTHERS + cluster: json.dumps(each, separators=(",", ":")) for cluster, each in said.items()}
    return message(Runtime, {"name": OTHERS_LAYER, "layer": fields})


def _list_members(endpoints: Iterable[ir.Endpoint], pages: Mapping[str, Pages]) -> str:
    return json.dumps({"nodes": [_describe(e, pages.get(e.node)) for e in endpoints]}, separators=(",", ":"))


def _describe(endpoint: ir.Endpoint, pages: Pages | None) -> Json:
    member: Json = {
        "address": print_address(endpoint.address, endpoint.port),
        "node": endpoint.node,
        "engine": endpoint.engine,
    }
    if endpoint.capacity is not None:
        member["capacity"] = endpoint.capacity
    if pages is not None and pages.urls:
        member["metrics"] = list(pages.urls)
        if pages.mapping:
            member["mapping"] = json.loads(pages.mapping)
    return member
