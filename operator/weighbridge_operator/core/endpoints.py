"""ModelNodes that can be served from: their references found, their address known and allowed."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from ipaddress import ip_address

from weighbridge_api.conditions import ACCEPTED, RESOLVED_REFS
from weighbridge_api.modelnode import ModelNode
from weighbridge_operator.core import ir
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.state import DesiredState, Ref

_HEALTH_PATHS = {"vllm": "/health", "sglang": "/health"}


@dataclass(frozen=True, slots=True)
class Server:
    """A node that requests can be sent to, with the settings that only a whole Envoy cluster can have."""

    node: ModelNode
    endpoint: ir.Endpoint
    health: ir.HealthCheck | None
    credential: tuple[str, str, str] | None


def node_ref(node: ModelNode) -> Ref:
    return Ref("ModelNode", node.metadata.namespace, node.metadata.name)


def resolve_node(node: ModelNode, desired: DesiredState, allow_loopback: bool) -> Server | Finding:
    """The node as it can be served from, or what keeps it from being served."""
    ref, spec = node_ref(node), node.spec
    address = _literal(spec.address.host) or desired.addresses.get(spec.address.host)
    if address is None:
        return Finding(
            ref, RESOLVED_REFS, "AddressNotFound", f"spec.address.host: no address is known for {spec.address.host}"
        )
    if (why := _refuse_address(address, allow_loopback)) is not None:
        return Finding(ref, ACCEPTED, "AddressRefused", f"spec.address.host: {address} is {why}; give the node's own")
    problem = _missing_secret(node, desired)
    if problem is not None:
        return Finding(ref, RESOLVED_REFS, "SecretNotFound", problem)
    problem = _broken_secret(node, desired)
    if problem is not None:
        return Finding(ref, RESOLVED_REFS, "SecretInvalid", problem)
    return Server(node, _endpoint(node, address), _health(node), _credential(node))


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _refuse_address(address: str, allow_loopback: bool) -> str | None:
    ip = ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local:
        return "link-local"
    if ip.is_unspecified or ip.is_multicast:
        return "no address of a server"
    if ip.is_loopback and not allow_loopback:
        return "a loopback address"
    return None


def _missing_secret(node: ModelNode, desired: DesiredState) -> str | None:
    namespace, spec = node.metadata.namespace, node.spec
    if spec.tls is not None and spec.tls.ca_secret_ref is not None:
        name = spec.tls.ca_secret_ref.name
        if "ca.crt" not in desired.secrets.get((namespace, name), {}):
            return f"spec.tls.caSecretRef: there is no Secret {name} with an entry ca.crt in namespace {namespace}"
    if spec.credentials is not None:
        entry = spec.credentials.secret_ref
        if entry.key not in desired.secrets.get((namespace, entry.name), {}):
            return (
                f"spec.credentials.secretRef: there is no Secret {entry.name} with an entry {entry.key} "
                f"in namespace {namespace}"
            )
    return None


def _broken_secret(node: ModelNode, desired: DesiredState) -> str | None:
    """What Envoy would refuse, or what would break out of a header; values are never repeated."""
    namespace, spec = node.metadata.namespace, node.spec
    if spec.tls is not None and spec.tls.ca_secret_ref is not None:
        name = spec.tls.ca_secret_ref.name
        if not _is_pem(desired.secrets[namespace, name]["ca.crt"]):
            return f"spec.tls.caSecretRef: entry ca.crt of Secret {name} holds no certificate in PEM form"
    if spec.credentials is not None:
        entry = spec.credentials.secret_ref
        key = desired.secrets[namespace, entry.name][entry.key].strip()
        if not key or any(byte < 33 or byte > 126 for byte in key):
            return (
                f"spec.credentials.secretRef: entry {entry.key} of Secret {entry.name} must be one line of printable "
                "characters without blanks"
            )
    return None


def _is_pem(text: bytes) -> bool:
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", text)
    try:
        return bool(blocks) and all(base64.b64decode(b"".join(block.split()), validate=True) for block in blocks)
    except binascii.Error:
        return False


def _endpoint(node: ModelNode, address: str) -> ir.Endpoint:
    spec = node.spec
    named = None if _literal(spec.address.host) else spec.address.host
    tls = None
    if spec.tls is not None:
        ca = spec.tls.ca_secret_ref
        tls = ir.Tls(
            server_name=spec.tls.server_name or named or address,
            ca=(node.metadata.namespace, ca.name) if ca else None,
        )
    return ir.Endpoint(
        node=node.id,
        engine=spec.engine,
        address=address,
        port=spec.address.port,
        hostname=named or (spec.tls.server_name if spec.tls else None),
        base_path=spec.address.path,
        served=tuple(ir.Served(m.name, m.version, m.served_as or m.name) for m in spec.models),
        tls=tls,
        tier=spec.tier,
        capacity=spec.capacity,
        concurrency=spec.concurrency,
    )


def _health(node: ModelNode) -> ir.HealthCheck | None:
    health = node.spec.health
    path = (health.path if health else None) or _HEALTH_PATHS.get(node.spec.engine)
    if path is None:
        return None
    return ir.HealthCheck(path, health.interval if health else 5.0)


def _credential(node: ModelNode) -> tuple[str, str, str] | None:
    if node.spec.credentials is None:
        return None
    entry = node.spec.credentials.secret_ref
    return (node.metadata.namespace, entry.name, entry.key)
