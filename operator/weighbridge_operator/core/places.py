"""Where a ModelNode listens: its one address, or every ready endpoint of its Service.

A terminating endpoint is left out, which is what drains it: Envoy sends it nothing new, and what it works on ends by
itself (removal cut none of 110 streams). DRAINING would do the same but keep it in the cluster, where it would have to
be weighed, scraped and counted although nothing may go there.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from weighbridge_api.conditions import ACCEPTED, RESOLVED_REFS
from weighbridge_api.modelnode import ModelNode, Service
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState, Ref, ServiceEndpoint, ServiceState

#: The one lack that passes by itself: what the node serves is still offered, and answered with 503 meanwhile.
NO_ENDPOINTS = "NoEndpoints"


@dataclass(frozen=True, slots=True)
class Place:
    """One server of a node. `name` is its identity; `host` the DNS name that it is known by, if it has one."""

    name: str
    address: str
    port: int
    host: str | None


def node_ref(node: ModelNode) -> Ref:
    return Ref("ModelNode", node.metadata.namespace, node.metadata.name)


def find_places(node: ModelNode, desired: DesiredState, scope: Scope) -> tuple[Place, ...] | Finding:
    """Its places, sorted by name, never empty; or what keeps it from having one."""
    if node.spec.service is not None:
        return _find_endpoints(node, node.spec.service, desired, scope)
    address = node.spec.address
    assert address is not None
    literal = parse_literal(address.host)
    found = literal or desired.addresses.get(address.host)
    ref = node_ref(node)
    if found is None:
        message = f"spec.address.host: no address is known for {address.host}; correct it, or the DNS"
        return Finding(ref, RESOLVED_REFS, "AddressNotFound", message)
    why = refuse_address(found, scope) or _refuse_entrance(found, address.port, desired, scope)
    if why is not None:
        return Finding(ref, ACCEPTED, "AddressRefused", f"spec.address.host: {found} is {why}; give the node's own")
    return (Place(node.id, found, address.port, None if literal else address.host),)


def parse_literal(host: str) -> str | None:
    """The IP address that a host is, in its usual form; None for a name."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def refuse_address(address: str, scope: Scope) -> str | None:
    """Why no node may be there, in words."""
    ip = ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local:
        return "link-local"
    if ip.is_unspecified or ip.is_multicast:
        return "no address of a server"
    if scope.cluster and ip.is_loopback:
        return "a loopback address"
    if str(ip) in scope.refused:
        return "the API server's own address"
    return None


def _refuse_entrance(address: str, port: int, desired: DesiredState, scope: Scope) -> str | None:
    """Each request there would come back."""
    host, own = scope.entrance or ("", 0)
    ip = ip_address(address)
    is_here = ip.is_loopback and parse_literal(host) is not None and ip_address(host).is_unspecified
    is_own = address == host or is_here or address in desired.envoys
    return "the gateway's own entrance" if port == own and is_own else None


def _find_endpoints(
    node: ModelNode, service: Service, desired: DesiredState, scope: Scope
) -> tuple[Place, ...] | Finding:
    ref, namespace = node_ref(node), node.metadata.namespace

    def lack(reason: str, message: str) -> Finding:
        return Finding(ref, RESOLVED_REFS, reason, f"spec.service: {message}")

    if not scope.cluster:
        return lack("ServiceNotFound", "Services exist only in a cluster; give spec.address instead")
    state = desired.services.get((namespace, service.name))
    if state is None:
        return lack("ServiceNotFound", f"there is no Service {service.name} in namespace {namespace}; correct the name")
    port = _name_port(state, service.port)
    if port is None:
        known = ", ".join(f"{name} {number}".strip() for name, number in state.ports) or "none"
        return lack("PortNotFound", f"Service {service.name} has no port {service.port}; it has {known}")
    allowed = [e for e in state.endpoints if refuse_address(e.address, scope) is None]
    found = {_name(e): place for e in allowed if (place := _place(node, service, e, port)) is not None}
    ready = {n: p for n, p in found.items() if _refuse_entrance(p.address, p.port, desired, scope) is None}
    if found and not ready:
        why = "leads to the gateway's own entrance; name the Service of the model servers"
        return Finding(ref, ACCEPTED, "AddressRefused", f"spec.service: Service {service.name} {why}")
    if not ready:
        return lack(NO_ENDPOINTS, f"Service {service.name}: {_tell_endpoints(state, allowed)}")
    return tuple(ready[name] for name in sorted(ready))


def _name_port(state: ServiceState, wanted: int | str) -> str | int | None:
    """The name under which endpoints list the port; a headless Service may list no ports, then a number is itself."""
    if not state.ports and isinstance(wanted, int):
        return wanted
    return next((name for name, number in state.ports if wanted in (name or None, number)), None)


def _place(node: ModelNode, service: Service, endpoint: ServiceEndpoint, port: str | int) -> Place | None:
    number = port if isinstance(port, int) else dict(endpoint.ports).get(port)
    if number is None or not endpoint.ready or endpoint.terminating:
        return None
    host = f"{service.name}.{node.metadata.namespace}.svc"
    return Place(f"{node.id}/{_name(endpoint)}", endpoint.address, number, host)


def _name(endpoint: ServiceEndpoint) -> str:
    return endpoint.pod or endpoint.address


def _tell_endpoints(state: ServiceState, allowed: list[ServiceEndpoint]) -> str:
    ending = sum(e.terminating for e in state.endpoints)
    refused = len(state.endpoints) - len(allowed)
    waiting = len(allowed) - ending
    if not state.endpoints:
        return "it has no endpoints; does its selector match a pod?"
    counts = ((waiting, "not ready"), (ending, "terminating"), (refused, "at an address that no node may have"))
    told = ", ".join(f"{count} {what}" for count, what in counts if count > 0)
    return f"no endpoint is ready ({told}); look at its pods"
