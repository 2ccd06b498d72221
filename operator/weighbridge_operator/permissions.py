"""What the operator asks of the Kubernetes API, as data: the chart grants this and nothing else.

A test compares it with the chart's roles; another runs the operator with these rights alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permission:
    """One resource ("" is the core group), what is done with it, and for what. `named`: with the xDS Secrets alone."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    reason: str
    named: bool = False


#: In the namespaces whose objects are read.
OBJECTS: tuple[Permission, ...] = (
    Permission("weighbridge.dev", "modelnodes", ("get", "list", "watch"), "what is served; get proves a deletion"),
    Permission("weighbridge.dev", "routepolicies", ("get", "list", "watch"), "what is served"),
    Permission("weighbridge.dev", "modelnodes/status", ("patch",), "server-side apply of conditions and scores"),
    Permission("weighbridge.dev", "routepolicies/status", ("patch",), "server-side apply of conditions"),
    Permission("discovery.k8s.io", "endpointslices", ("list", "watch"), "nodes behind a Service, and the Envoys"),
    Permission("", "services", ("list", "watch"), "the ports of such a Service"),
    Permission("", "secrets", ("get",), "credentials and authorities of nodes, by name; never listed"),
    Permission("events.k8s.io", "events", ("create",), "a change of Ready"),
)

#: In the gateway's own namespace.
OWN: tuple[Permission, ...] = (
    Permission("coordination.k8s.io", "leases", ("create", "get", "update"), "which replica writes status"),
)

#: There too, where the operator makes the certificates of xDS itself (--xds-tls-secret).
CERTIFICATES: tuple[Permission, ...] = (
    Permission("", "secrets", ("create",), "the first time; RBAC can't bound it by name"),
    Permission("", "secrets", ("get", "update"), "renewal", named=True),
)
