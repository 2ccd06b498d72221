"""From what users asked for to the gateway model, once for each change of the objects. Load plays no part in it.

An object that can't be honoured is left out and says why; it never disturbs another one.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge_api.conditions import ACCEPTED, RESOLVED_REFS
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.core import ir
from weighbridge_operator.core.endpoints import Server, resolve_node
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.places import NO_ENDPOINTS
from weighbridge_operator.core.pools import is_named
from weighbridge_operator.core.routing import Router
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState, Ref


@dataclass(frozen=True, slots=True)
class Resolved:
    """The gateway model; what was found out about the objects, sorted; and the nodes that are served from, by id."""

    gateway: ir.Gateway
    findings: tuple[Finding, ...]
    nodes: tuple[ModelNode, ...]


def resolve(desired: DesiredState, scope: Scope) -> Resolved:
    """The gateway that these objects ask for."""
    findings: list[Finding] = []
    nodes = [node for node in desired.nodes if _is_in_scope(node, scope, findings)]
    policies = [policy for policy in desired.policies if _is_in_scope(policy, scope, findings)]
    servers: list[Server] = []
    offering: list[ModelNode] = []
    for node in nodes:
        match resolve_node(node, desired, scope):
            case Finding() as finding:
                findings.append(finding)
                if finding.reason == NO_ENDPOINTS:
                    offering.append(node)
            case found:
                servers.extend(found)
                offering.append(node)
    router = Router(tuple(servers), tuple(policies), tuple(offering), scope.namespace)
    gateway = router.route()
    findings.extend(router.findings)
    findings.extend(_unused(policies, offering, router.used))
    return Resolved(
        gateway,
        tuple(sorted(findings, key=lambda f: (f.ref, f.condition, f.reason, f.message))),
        tuple({server.node.id: server.node for server in servers}.values()),
    )


def _is_in_scope(item: ModelNode | RoutePolicy, scope: Scope, findings: list[Finding]) -> bool:
    namespace = item.metadata.namespace
    if scope.serves(namespace):
        return True
    message = f"metadata.namespace: this gateway serves {scope}, not {namespace}"
    findings.append(Finding(Ref(item.kind, namespace, item.metadata.name), ACCEPTED, "NamespaceNotServed", message))
    return False


def _unused(policies: list[RoutePolicy], nodes: list[ModelNode], used: dict[str, str | None]) -> list[Finding]:
    found: list[Finding] = []
    for policy in policies:
        key = f"{policy.metadata.namespace}/{policy.metadata.name}"
        ref = Ref("RoutePolicy", policy.metadata.namespace, policy.metadata.name)
        if policy.spec.nodes is not None and not _selects_any(policy, nodes):
            labels = ", ".join(f"{k}={v}" for k, v in policy.spec.nodes.match_labels.items())
            message = f"spec.nodes.matchLabels: no ModelNode of namespace {policy.metadata.namespace} carries {labels}"
            found.append(Finding(ref, RESOLVED_REFS, "NoNodes", message))
        elif key not in used:
            message = "spec.match: no model that is served here fits; compare spec.models of the nodes"
            found.append(Finding(ref, RESOLVED_REFS, "NoModel", message))
        elif (winner := used[key]) is not None:
            message = f"spec.match: RoutePolicy {winner} speaks for all of these requests; narrow one of the two"
            found.append(Finding(ref, ACCEPTED, "Overruled", message))
    return found


def _selects_any(policy: RoutePolicy, nodes: list[ModelNode]) -> bool:
    return any(is_named(node, policy) for node in nodes)
