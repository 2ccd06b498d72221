"""ModelNodes that can be served from: their references found, their address known and allowed."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge_api.conditions import RESOLVED_REFS
from weighbridge_api.modelnode import ModelNode
from weighbridge_operator.core import ir
from weighbridge_operator.core.engines import HABITS, list_published
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.places import Place, find_places, node_ref
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState

_BASE_PATHS = {"gemini": "/v1beta"}
_NO_AUTHORITIES = (
    "spec.tls: the operator's machine has no certificate authorities; install ca-certificates there, let SSL_CERT_FILE "
    "name a file of them, or give the node's own in spec.tls.caSecretRef"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that requests can be sent to, with the settings that only a whole Envoy cluster can have."""

    node: ModelNode
    endpoint: ir.Endpoint
    health: ir.HealthCheck | None
    credential: tuple[str, str, str] | None


def resolve_node(
    node: ModelNode, desired: DesiredState, scope: Scope
) -> tuple[tuple[Server, ...], tuple[Finding, ...]]:
    """The node's servers, sorted by name; or none, and everything that keeps it from being served."""
    places = find_places(node, desired, scope)
    wrong = [places] if isinstance(places, Finding) else []
    wrong += _find_secrets(node, desired)
    if wrong or isinstance(places, Finding):
        return (), tuple(wrong)
    return tuple(Server(node, _endpoint(node, place), _health(node), _credential(node)) for place in places), ()


def _find_secrets(node: ModelNode, desired: DesiredState) -> Iterator[Finding]:
    """What is wrong with the entries that the node refers to: Envoy would refuse it, or it would leave its header."""
    namespace, tls, credentials = node.metadata.namespace, node.spec.tls, node.spec.credentials
    if tls is not None and tls.ca_secret_ref is not None:
        name = tls.ca_secret_ref.name
        found = desired.secrets.get((namespace, name), {}).get("ca.crt")
        if found is None:
            yield _miss(node, "spec.tls.caSecretRef", name, "ca.crt")
        elif not _is_pem(found):
            message = f"spec.tls.caSecretRef: entry ca.crt of Secret {name} holds no certificate in PEM form"
            yield Finding(node_ref(node), RESOLVED_REFS, "SecretInvalid", f"{message}; correct the Secret")
    elif tls is not None and desired.authorities is None:
        yield Finding(node_ref(node), RESOLVED_REFS, "AuthoritiesNotFound", _NO_AUTHORITIES)
    if credentials is not None:
        name, entry = credentials.secret_ref.name, credentials.secret_ref.key
        found = desired.secrets.get((namespace, name), {}).get(entry)
        if found is None:
            yield _miss(node, "spec.credentials.secretRef", name, entry)
        elif not (key := found.strip()) or any(byte < 33 or byte > 126 for byte in key):
            message = f"spec.credentials.secretRef: entry {entry} of Secret {name}"
            remedy = "must be one line of printable characters without blanks; correct the Secret"
            yield Finding(node_ref(node), RESOLVED_REFS, "SecretInvalid", f"{message} {remedy}")


def _miss(node: ModelNode, field: str, name: str, entry: str) -> Finding:
    message = f"{field}: there is no Secret {name} with an entry {entry} in namespace {node.metadata.namespace}"
    return Finding(node_ref(node), RESOLVED_REFS, "SecretNotFound", f"{message}; add it, or correct the reference")


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
