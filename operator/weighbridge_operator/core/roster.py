"""Who can be served from, and what they offer: all of the gateway that depends on nodes alone.

A change of a policy leaves it as it was, and one of a node looks at that node alone: of a thousand nodes each is looked
at once. The outcome is the same without what was known before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from weighbridge_api.modelnode import Model, ModelNode
from weighbridge_operator.core import ir
from weighbridge_operator.core.endpoints import Server, resolve_node
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.places import NO_ENDPOINTS
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState, ServiceState

T = TypeVar("T")
Offers = Mapping[ir.Kind, Mapping[str, tuple[str, ...]]]  # kind -> model -> versions, sorted


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found out about a node. `service` is the state of the one that it names."""

    node: ModelNode
    service: ServiceState | None
    servers: tuple[Server, ...]
    wrong: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Roster:
    """`servers` are ready; `offering` are nodes that serve, or would if they had a ready endpoint."""

    asked: DesiredState  # what it was made of: no policies, no rejections
    scope: Scope
    found: Mapping[str, _Found]  # by the node's id
    servers: tuple[Server, ...]
    offering: tuple[ModelNode, ...]
    findings: tuple[Finding, ...]
    servers_by: Mapping[tuple[ir.Kind, str], tuple[Server, ...]]  # by kind and model
    offering_by: Mapping[tuple[ir.Kind, str], tuple[ModelNode, ...]]
    #: What no server is ready for is still offered: "not now" (503) is another answer than "no such model" (404).
    offers: Offers
    ready: Offers


def call_roll(desired: DesiredState, scope: Scope, known: Roster | None = None) -> Roster:
    """The roster of these nodes. What `known` says of a node holds on where nothing that it rests upon has changed."""
    asked = replace(desired, policies=(), rejections=())
    if known is not None and (known.asked, known.scope) == (asked, scope):
        return known
    common = replace(asked, nodes=(), services={})
    holds = known is not None and (replace(known.asked, nodes=(), services={}), known.scope) == (common, scope)
    before = known.found if known is not None and holds else {}
    found = {
        node.id: _look(node, desired, scope, before.get(node.id))
        for node in desired.nodes
        if scope.serves(node.metadata.namespace)
    }
    servers = tuple(server for each in found.values() for server in each.servers)
    offering = tuple(
        each.node for each in found.values() if all(finding.reason == NO_ENDPOINTS for finding in each.wrong)
    )
    return Roster(
        asked,
        scope,
        found,
        servers,
        offering,
        tuple(finding for each in found.values() for finding in each.wrong),
        _group((server.node, server) for server in servers),
        _group((node, node) for node in offering),
        _list_offers(offering),
        _list_offers(server.node for server in servers),
    )


def _look(node: ModelNode, desired: DesiredState, scope: Scope, last: _Found | None) -> _Found:
    named = node.spec.service
    service = desired.services.get((node.metadata.namespace, named.name)) if named is not None else None
    if last is not None and (last.node is node or last.node == node) and last.service == service:
        return last
    return _Found(node, service, *resolve_node(node, desired, scope))


def _group(items: Iterable[tuple[ModelNode, T]]) -> Mapping[tuple[ir.Kind, str], tuple[T, ...]]:
    """By each kind and model that the node of an item serves."""
    found: dict[tuple[ir.Kind, str], list[T]] = defaultdict(list)
    for node, item in items:
        for key in _list_keys(node):
            found[key].append(item)
    return {key: tuple(each) for key, each in found.items()}


def _list_keys(node: ModelNode) -> Iterable[tuple[ir.Kind, str]]:
    """Each kind and model that the node serves, once."""
    return dict.fromkeys((kind, model.name) for model in node.spec.models for kind in _list_kinds(node, model))


def _list_kinds(node: ModelNode, model: Model) -> Iterable[ir.Kind]:
    return (ir.Kind(type_, node.spec.format) for type_ in model.types)


def _list_offers(nodes: Iterable[ModelNode]) -> Offers:
    found: dict[ir.Kind, dict[str, set[str]]] = {}
    for node in nodes:
        for model in node.spec.models:
            for kind in _list_kinds(node, model):
                versions = found.setdefault(kind, {}).setdefault(model.name, set())
                if model.version is not None:
                    versions.add(model.version)
    return {
        kind: {model: tuple(sorted(versions)) for model, versions in sorted(models.items())}
        for kind, models in sorted(found.items())
    }
