"""The route table: found by one look at the header that the entrance wrote, however many models there are.

    "text whole qwen2.5-7b "  ->  the rules of that entry, each with its headers and shares
    "text whole  "            ->  the default's rules, or 400
    "text "                   ->  404, naming what there is
    "anthropic.text ..."      ->  the same of another API than OpenAI's
    no such header            ->  /v1/models, or 404

Shares are cumulative fractions of one random number that Envoy draws per request, so that all tries of a request stay
with the same version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.message import Message
from xds.type.matcher.v3.matcher_pb2 import Matcher

from weighbridge_api.wire import CHOICE
from weighbridge_operator.core import ir
from weighbridge_operator.xds import answers
from weighbridge_operator.xds.addresses import OVER_HTTPS, find_path, guard, list_paths
from weighbridge_operator.xds.build import Json, extension, message, seconds
from weighbridge_operator.xds.chains import Plan, Target
from weighbridge_operator.xds.keys import FILTER, Callers, let_in
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.matching import by_prefix, on
from weighbridge_operator.xds.memo import Memo
from weighbridge_operator.xds.names import (
    CHOICE_HEADER,
    CLIENT_HEADER,
    HOPS_HEADER,
    METADATA,
    NODE_HEADER,
    OWN_HEADERS,
    POLICY_HEADER,
    ROUTE_HEADER,
    ROUTES,
)
from weighbridge_operator.xds.paths import BODY_LIMIT, KINDS, limit_of, word_of
from weighbridge_operator.xds.precise import ask_on, go_where_named
from weighbridge_operator.xds.references import Reference, find_references
from weighbridge_operator.xds.statistics import name_refusal, name_route

MODES = ("whole", "stream")
_MILLION = 1_000_000
LONGER = 4096  # bytes by which a body may grow on its way, where a model's name is written into it
_PAUSE = 0.5  # seconds, more than the longest before a retry
#: Callers' keys and whereabouts are no business of a node's.
_KEPT_FROM_NODES = (
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "cookie",
    "openai-organization",
    "openai-project",
    "forwarded",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-envoy-external-address",
    CLIENT_HEADER,
)


def translate_routes(
    gateway: ir.Gateway, plan: Plan, entrance: Entrance, callers: Callers | None, memo: Memo
) -> tuple[Message, tuple[Reference, ...]]:
    """The RouteConfiguration of the entrance, and what it refers to.

    `callers`: who is let in; None asks for no key.
    """
    frame = _frame(gateway, entrance)
    framed, wanted = memo.recall(ROUTES, frame, partial(_make, RouteConfiguration, frame))
    made, needs = RouteConfiguration(), set(wanted)
    made.CopyFrom(framed)
    matcher = made.virtual_hosts[0].matcher
    if entrance.tls:
        matcher = matcher.matcher_tree.exact_match_map.map[OVER_HTTPS].matcher
    needs |= _fill(matcher.matcher_tree.prefix_match_map.map, _models(gateway, plan, entrance.debug_headers), memo)
    paths: _Entries = ((path, found, partial(dict, found)) for path, found in list_paths(gateway).items())
    needs |= _fill(matcher.on_no_match.matcher.matcher_tree.exact_match_map.map, paths, memo)
    if callers is not None:
        made.virtual_hosts[0].typed_per_filter_config[FILTER].CopyFrom(let_in(callers))
    return made, tuple(sorted(needs))


def _frame(gateway: ir.Gateway, entrance: Entrance) -> Json:
    """All of it but what the tables hold."""
    found: Json = {**by_prefix(ROUTE_HEADER, {}), "on_no_match": find_path(gateway)}
    return {
        "name": ROUTES,
        "internal_only_headers": list(OWN_HEADERS),
        "max_direct_response_body_size_bytes": len(str(answers.model_cards(gateway))) + 65536,
        "virtual_hosts": [
            {
                "name": ROUTES,
                "domains": ["*"],
                "request_body_buffer_limit": BODY_LIMIT,
                # For the entrance's script, which looks only where a request came through a gateway before.
                "metadata": {"filter_metadata": {"envoy.filters.http.lua": {"gateway": entrance.name}}},
                "request_headers_to_add": [_add(HOPS_HEADER, entrance.name)],
                "request_headers_to_remove": list(_KEPT_FROM_NODES),
                "matcher": guard(found) if entrance.tls else found,
            }
        ],
    }


#: A key of the table, all that what is found there is made of, and what makes it.
_Entries = Iterable[tuple[str, object, Callable[[], Json]]]


@dataclass(frozen=True, slots=True)
class _Way:
    """All that an entry's routes are made of. `targets`: of each branch, with the clusters of which a node is named.

    `seed`: that of the gateway.
    """

    entry: ir.Entry
    targets: tuple[tuple[Target, tuple[str, ...]], ...]
    refusal: Json | None  # of what no rule takes
    debug_headers: bool
    seed: str


def _models(gateway: ir.Gateway, plan: Plan, debug_headers: bool) -> _Entries:
    """What is found by the header that the entrance wrote."""
    unknown: dict[ir.Kind, Json] = {}
    for kind in sorted(KINDS):
        served = kind in gateway.kinds
        refusal = answers.unknown_model(gateway, kind) if served else answers.unserved_kind(gateway, kind)
        unknown[kind] = name_refusal(refusal, kind)
        yield f"{word_of(kind)} ", unknown[kind], partial(on, unknown[kind])
    for entry in gateway.entries:
        branches = [(rule, branch.destinations) for rule in entry.rules for branch in rule.branches]
        targets = tuple(
            (plan.target(destinations, _asked(entry, rule)), plan.candidates(destinations) if rule.precise else ())
            for rule, destinations in branches
        )
        way = _Way(entry, targets, _refuse(entry, gateway, unknown[entry.kind]), debug_headers, gateway.seed)
        for mode in MODES:
            yield f"{word_of(entry.kind)} {mode} {entry.key} ", way, partial(_find, way, mode)


def _refuse(entry: ir.Entry, gateway: ir.Gateway, unknown: Json) -> Json | None:
    """What requests are answered that no rule of the entry takes."""
    if not entry.rules and not entry.key:
        return name_refusal(answers.missing_model(gateway, entry.kind), entry.kind)
    return unknown if not entry.rules or entry.rules[-1].headers else None


def _fill(tree: Any, entries: _Entries, memo: Memo) -> set[Reference]:
    """Writes the entries into a map of a matcher, and tells what they refer to. Only what is new is made."""
    needs: set[Reference] = set()
    for key, given, make in sorted(entries, key=itemgetter(0)):
        entry, wanted = memo.recall((Matcher.OnMatch, key), given, partial(_make_entry, make))
        tree[key].CopyFrom(entry)
        needs.update(wanted)
    return needs


def _make(kind: type[Message], found: Json) -> tuple[Message, tuple[Reference, ...]]:
    made = message(kind, found)
    return made, find_references(made)


def _make_entry(make: Callable[[], Json]) -> tuple[Message, tuple[Reference, ...]]:
    return _make(Matcher.OnMatch, make())


def _find(way: _Way, mode: str) -> Json:
    """The routes of an entry's requests, the last of them for what no rule takes."""
    entry, targets, routes = way.entry, iter(way.targets), list[Json]()
    for rule in entry.rules:
        drawn = 0.0
        for number, branch in enumerate(rule.branches, start=1):
            drawn += branch.share
            share = None if number == len(rule.branches) else drawn
            target, candidates = next(targets)
            route = _route(rule, branch, target, share, mode, way.debug_headers)
            route = name_route(route, entry, rule, mode)
            if target.adapts or rule.default is not None or limit_of(entry.kind) != BODY_LIMIT:
                route["request_body_buffer_limit"] = limit_of(entry.kind) + LONGER
            routes += _choose(route, candidates, target.ways, way.seed) if rule.precise else [route]
    return on(*routes, *([way.refusal] if way.refusal is not None else ()))


def _asked(entry: ir.Entry, rule: ir.Rule) -> str:
    return entry.key or rule.default or ""


def _choose(route: Json, clusters: tuple[str, ...], ways: tuple[str, ...], seed: str) -> list[Json]:
    """The route on which the data plane is asked; before it that for a named cluster, where it names one."""
    asking = ask_on(route, clusters, ways, seed)
    return [go_where_named(route), asking] if ways else [asking]


def _route(
    rule: ir.Rule, branch: ir.Branch, target: Target, share: float | None, mode: str, debug_headers: bool
) -> Json:
    match: Json = {"prefix": "/"}
    if rule.headers:
        match["headers"] = [{"name": name, "string_match": {"exact": value}} for name, value in rule.headers]
    if share is not None:
        fraction = {"numerator": round(share / 100 * _MILLION), "denominator": "MILLION"}
        match["runtime_fraction"] = {"default_value": fraction}
    route: Json = {"match": match, "route": _action(rule, target, mode)}
    told = {} if rule.default is None else {"default": rule.default}
    if target.adapts:
        told["models"] = " ".join(dict.fromkeys(destination.key for destination in branch.destinations))
    else:
        route["request_headers_to_remove"] = [ROUTE_HEADER]
    if told:
        route["metadata"] = {"filter_metadata": {"envoy.filters.http.lua": told}}
    if debug_headers:
        route["response_headers_to_add"] = [_set(NODE_HEADER, f"%UPSTREAM_METADATA({METADATA}:node)%")]
        if rule.policy is not None:
            route["response_headers_to_add"].append(_set(POLICY_HEADER, rule.policy.partition("/")[2]))
        if rule.precise:
            # The second is left out where no node was named.
            chose = ("weights", f"%DYNAMIC_METADATA({CHOICE}:by)%")
            route["response_headers_to_add"] += [_set(CHOICE_HEADER, by) for by in chose]
    return route


def _action(rule: ir.Rule, target: Target, mode: str) -> Json:
    action: Json = {"auto_host_rewrite": True, "retry_policy": _retry(rule, mode, target)}
    if len(target.clusters) == 1:
        action["cluster"] = target.clusters[0][0]
    else:
        weighted = [{"name": name, "weight": weight} for name, weight in target.clusters]
        action["weighted_clusters"] = {"clusters": weighted}
    limits = rule.timeouts
    if mode == "stream":
        # Envoy has one timer for silence. It runs before the first byte too, and on over a retry: it must leave time
        # for one node that says nothing and another that answers.
        tries = 2 if rule.retry.attempts and not target.alone else 1
        action["timeout"] = "0s"
        action["idle_timeout"] = seconds(max(tries * limits.first_token + _PAUSE, limits.idle))
        action["max_stream_duration"] = {"max_stream_duration": seconds(limits.total)}
    else:
        action["timeout"] = seconds(limits.total)
        action["idle_timeout"] = "0s"
    return action


def _retry(rule: ir.Rule, mode: str, target: Target) -> Json:
    # 500 is left out: a prompt can provoke it on every node in turn. With unequal weights the schedule offers the
    # failed node again and again, hence the many attempts. A node that is alone is asked again where a connection
    # failed, which may have been an old one: its answer stands, for asking at once makes a busy node busier.
    previous = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    policy: Json = {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": rule.retry.attempts,
        "retry_host_predicate": [extension("envoy.retry_host_predicates.previous_hosts", previous)],
        "host_selection_retry_max_attempts": 1000,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }
    if not target.alone:
        policy["retry_on"] += ",retriable-status-codes"
        policy["retriable_status_codes"] = [429, 502, 503, 504]
    limits = rule.timeouts
    if mode == "stream" and (not target.alone or limits.idle > limits.first_token):
        # The second stands between the head, which vLLM sends at once, and the first part; later it does not run. Of a
        # node that is alone the route's timer says the same, and it is not asked anew.
        policy["per_try_timeout"] = seconds(limits.first_token)
        policy["per_try_idle_timeout"] = seconds(max(limits.first_token, limits.idle))
    if target.patience is not None:
        # A chain's clusters are priorities to Envoy. Without this a request would try a pool's last node until that
        # is ejected.
        kind = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
        policy["retry_priority"] = extension(
            "envoy.retry_priorities.previous_priorities", kind, {"update_frequency": target.patience}
        )
    return policy


def _add(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


def _set(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
