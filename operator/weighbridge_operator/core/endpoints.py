"""ModelNodes that can be served from: their references found, their address known and allowed."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from weighbridge_api.conditions import RESOLVED_REFS
from weighbridge_api.modelnode import ModelNode
from weighbridge_operator.core import ir
from weighbridge_operator.core.engines import HABITS, list_published
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.places import NO_ENDPOINTS, Place, find_places, node_ref
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState

_BASE_PATHS = {"gemini": "/v1beta"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that requests can be sent to, with the settings that only a whole Envoy cluster can have."""

    node: ModelNode
    endpoint: ir.Endpoint
    health: ir.HealthCheck | None
    credential: tuple[str, str, str] | None


def resolve_node(node: ModelNode, desired: DesiredState, scope: Scope) -> tuple[Server, ...] | Finding:
    """The node's servers, sorted by name and never none, or what keeps it from being served."""
    ref = node_ref(node)
    places = find_places(node, desired, scope)
    if isinstance(places, Finding) and places.reason != NO_ENDPOINTS:
        return places
    problem = _missing_secret(node, desired)
    if problem is not None:
        return Finding(ref, RESOLVED_REFS, "SecretNotFound", problem)
    problem = _broken_secret(node, desired)
    if problem is not None:
        return Finding(ref, RESOLVED_REFS, "SecretInvalid", problem)
    if isinstance(places, Finding):
        return places
    return tuple(Server(node, _endpoint(node, place), _health(node), _credential(node)) for place in places)


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


def _endpoint(node: ModelNode, place: Place) -> ir.Endpoint:
    spec = node.spec
    tls = None
    if spec.tls is not None:
        ca = spec.tls.ca_secret_ref
        tls = ir.Tls(
            server_name=spec.tls.server_name or place.host or place.address,
            ca=(node.metadata.namespace, ca.name) if ca else None,
        )
    at = spec.address or spec.service
    assert at is not None
    return ir.Endpoint(
        node=place.name,
        model_node=node.id,
        engine=spec.engine,
        address=place.address,
        port=place.port,
        hostname=place.host or (spec.tls.server_name if spec.tls else None),
        base_path=at.path or _BASE_PATHS.get(spec.format, "/v1"),
        served=tuple(ir.Served(m.name, m.version, m.served_as or m.name) for m in spec.models),
        tls=tls,
        tier=spec.tier,
        capacity=spec.capacity,
        concurrency=spec.concurrency,
        format=spec.format,
        publishes_room="roomTokens" in list_published(spec),
    )


def _health(node: ModelNode) -> ir.HealthCheck | None:
    health = node.spec.health
    path = (health.path if health else None) or HABITS[node.spec.engine].health
    if path is None:
        return None
    return ir.HealthCheck(path, health.interval if health else 5.0)


def _credential(node: ModelNode) -> tuple[str, str, str] | None:
    if node.spec.credentials is None:
        return None
    entry = node.spec.credentials.secret_ref
    return (node.metadata.namespace, entry.name, entry.key)
