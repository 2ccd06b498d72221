"""From what users asked for to the gateway model, once for each change of the objects. Load plays no part in it.

An object that can't be honoured is left out and says why; it never disturbs another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from weighbridge_api.conditions import ACCEPTED, RESOLVED_REFS
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.core import ir
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.pools import is_named
from weighbridge_operator.core.roster import Offers, Roster, call_roll
from weighbridge_operator.core.routing import Router
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState, Ref

#: What makes the other reasons of a policy unimportant is told first, and gives its condition the reason.
_FIRST = ("NoNodes", "NoModel")


@dataclass(frozen=True, slots=True)
class Resolved:
    """The gateway model; what was found out about the objects, sorted; and the nodes that are served from, by id."""

    gateway: ir.Gateway
    findings: tuple[Finding, ...]
    nodes: tuple[ModelNode, ...]
    roster: Roster = field(compare=False, repr=False)

    def has_same_places(self, other: Resolved) -> bool:
        """Whether the same nodes are weighed at the same places."""
        return self.roster is other.roster and self.gateway.pools == other.gateway.pools

    @property
    def summary(self) -> str:
        """How much there is, for a line in the log."""
        models = sum(1 for entry in self.gateway.entries if entry.key and "@" not in entry.key)
        counts = ((len(self.nodes), "node"), (len(self.gateway.pools), "pool"), (models, "model"))
        return ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for number, word in counts)


def resolve(desired: DesiredState, scope: Scope, known: Resolved | None = None) -> Resolved:
    """The gateway that these objects ask for. `known`, what was resolved before, spares work and changes nothing."""
    roster = call_roll(desired, scope, known.roster if known is not None else None)
    policies = [policy for policy in desired.policies if scope.serves(policy.metadata.namespace)]
    router = Router(roster, tuple(policies), scope.namespace)
    gateway = router.route()
    findings = [*list_outside(desired, scope), *roster.findings, *router.findings]
    findings.extend(_unused(policies, roster.offering, router.used))
    findings.extend(_unserved(policies, roster.offers))
    return Resolved(
        gateway,
        tuple(sorted(findings, key=lambda f: (f.ref, f.condition, f.reason not in _FIRST, f.reason, f.message))),
        tuple({server.node.id: server.node for server in roster.servers}.values()),
        roster,
    )


def list_outside(desired: DesiredState, scope: Scope) -> Iterator[Finding]:
    """Objects of namespaces that are not served."""
    items: tuple[ModelNode | RoutePolicy, ...] = (*desired.nodes, *desired.policies)
    for item in items:
        namespace = item.metadata.namespace
        if not scope.serves(namespace):
            message = (
                f"metadata.namespace: this gateway serves {scope}, not {namespace}; move it, or serve that one, too"
            )
            yield Finding(Ref(item.kind, namespace, item.metadata.name), ACCEPTED, "NamespaceNotServed", message)


def _unused(
    policies: list[RoutePolicy], nodes: tuple[ModelNode, ...], used: dict[str, str | None]
) -> Iterator[Finding]:
    """Policies that speak for no request."""
    for policy in policies:
        ref, namespace = _refer(policy), policy.metadata.namespace
        key = f"{namespace}/{policy.metadata.name}"
        named = policy.spec.nodes is None or any(is_named(node, policy) for node in nodes)
        if not named and policy.spec.nodes is not None:
            labels = ", ".join(f"{k}={v}" for k, v in policy.spec.nodes.match_labels.items())
            message = f"spec.nodes.matchLabels: no ModelNode of namespace {namespace} carries {labels}"
            yield Finding(ref, RESOLVED_REFS, "NoNodes", f"{message}; label the nodes, or correct the selector")
        if key not in used and (named or policy.spec.match.models):
            field = "models" if policy.spec.match.models else "types"
            message = f"spec.match.{field}: no model that is served here fits; compare spec.models of the nodes"
            yield Finding(ref, RESOLVED_REFS, "NoModel", message)
        elif named and (winner := used.get(key)) is not None:
            message = f"spec.match: RoutePolicy {winner} speaks for all of these requests; narrow one of the two"
            yield Finding(ref, ACCEPTED, "Overruled", message)


def _unserved(policies: list[RoutePolicy], offers: Offers) -> Iterator[Finding]:
    """What policies name and nobody serves, whether or not they speak for a request. The router looks at types."""
    names = {name for models in offers.values() for name in models}
    versions = {version for models in offers.values() for each in models.values() for version in each}
    for policy in policies:
        ref, spec = _refer(policy), policy.spec
        for fallback in spec.fallback:
            if fallback.model not in names:
                message = f"spec.fallback: no node serves {fallback.model}; correct it, or add a node"
                yield Finding(ref, RESOLVED_REFS, "FallbackNotServed", message)
        if spec.default_model is not None and spec.default_model not in names:
            message = f"spec.defaultModel: no node serves {spec.default_model}; correct it, or add a node"
            yield Finding(ref, RESOLVED_REFS, "DefaultNotServed", message)
        for share in spec.versions:
            if share.version not in versions:
                message = f"spec.versions: no node serves version {share.version}; correct it, or the nodes"
                yield Finding(ref, RESOLVED_REFS, "VersionNotServed", message)


def _refer(policy: RoutePolicy) -> Ref:
    return Ref("RoutePolicy", policy.metadata.namespace, policy.metadata.name)
