"""Everything that is wrong with a set of objects at once, for a person who mends it before it serves.

`resolve` leaves out what can't be served, so that one mistake hides others and makes some that are none: a node without
its Secret serves no model, and every policy for that model seems to be wrong. Here each object is judged beside others
that are well.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge_api.modelnode import Address, ModelNode
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.places import node_ref
from weighbridge_operator.core.resolve import list_outside, resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState

_ANYWHERE = Address(host="192.0.2.1", port=1)


def review(desired: DesiredState, scope: Scope) -> tuple[Finding, ...]:
    """What is wrong, sorted by object; of objects in other namespaces, too."""
    wide = replace(scope, everything=True)
    first = resolve(desired, wide).findings
    ill = {finding.ref for finding in first if finding.ref.kind == "ModelNode"}
    nodes = tuple(_heal(node) if node_ref(node) in ill else node for node in desired.nodes)
    second = resolve(replace(desired, nodes=nodes), wide).findings if ill else first
    found = [
        *list_outside(desired, scope),
        *(finding for finding in first if finding.ref in ill),
        *(finding for finding in second if finding.ref.kind != "ModelNode"),
    ]
    return tuple(sorted(found, key=lambda each: each.ref))


def _heal(node: ModelNode) -> ModelNode:
    """The same node where nothing keeps it from being served."""
    plain = {"address": _ANYWHERE, "service": None, "tls": None, "credentials": None}
    return node.model_copy(update={"spec": node.spec.model_copy(update=plain)})
