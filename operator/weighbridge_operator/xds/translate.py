"""From the gateway model and the weights to one snapshot. Pure: equal inputs give equal bytes in every process.

`translate` is for changes of the objects, `assign_weights` for changes of load: it touches endpoints and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.message import Message

from weighbridge_operator.core import ir
from weighbridge_operator.xds import snapshot
from weighbridge_operator.xds.chains import plan_clusters
from weighbridge_operator.xds.cluster import translate_chain, translate_part
from weighbridge_operator.xds.endpoint import assign
from weighbridge_operator.xds.listener import translate_listener
from weighbridge_operator.xds.names import name_authorities, name_credential
from weighbridge_operator.xds.route import translate_routes
from weighbridge_operator.xds.snapshot import Snapshot

Weights = Mapping[str, Mapping[str, int]]  # pool -> node -> weight
Secrets = Mapping[tuple[str, str], Mapping[str, bytes]]  # (namespace, name) -> entry -> value


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where callers come in. `debug_headers`: answers tell which node and policy served them."""

    host: str = "127.0.0.1"
    port: int = 8080
    debug_headers: bool = True


def translate(
    gateway: ir.Gateway, weights: Weights, secrets: Secrets, entrance: Entrance, salt: bytes = b""
) -> Snapshot:
    """Everything that the gateway's Envoys should hold. `salt` keys the versions of secrets."""
    plan = plan_clusters(gateway)
    clusters = [
        translate_part(part, name in plan.adapting, plan.budgets.get(name, 0.0)) for name, part in plan.parts.items()
    ]
    clusters += [
        translate_chain(name, members, name in plan.adapting, plan.budgets[name], plan.credentials(members))
        for name, members in plan.chains.items()
    ]
    return snapshot.build(
        clusters=clusters,
        endpoints=_assignments(gateway, weights),
        listeners=[translate_listener(entrance.host, entrance.port)],
        routes=[translate_routes(gateway, plan, entrance.debug_headers)],
        secrets=_secrets(gateway, secrets),
        salt=salt,
    )


def assign_weights(before: Snapshot, gateway: ir.Gateway, weights: Weights) -> Snapshot:
    """The snapshot with other weights. `weights` may name only the pools that changed."""
    changed = ir.Gateway(tuple(pool for pool in gateway.pools if pool.name in weights))
    return before.with_endpoints(_assignments(changed, weights))


def _assignments(gateway: ir.Gateway, weights: Weights) -> Iterator[Message]:
    for pool in gateway.pools:
        for part in pool.parts:
            yield assign(part, weights.get(pool.name, {}))


def _secrets(gateway: ir.Gateway, secrets: Secrets) -> list[Message]:
    found: dict[str, Message] = {}
    for part in (part for pool in gateway.pools for part in pool.parts):
        if part.credential is not None:
            name = name_credential(part.credential)
            key = secrets[part.credential[:2]][part.credential[2]]
            found[name] = _credential(name, key)
        for endpoint in part.endpoints:
            if endpoint.tls is not None and endpoint.tls.ca is not None:
                name = name_authorities(endpoint.tls.ca)
                found[name] = _authorities(name, secrets[endpoint.tls.ca]["ca.crt"])
    return list(found.values())


def _credential(name: str, key: bytes) -> Message:
    secret = Secret(name=name)
    secret.generic_secret.secret.inline_bytes = b"Bearer " + key.strip()
    return secret  # type: ignore[no-any-return]


def _authorities(name: str, certificates: bytes) -> Message:
    secret = Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = certificates
    return secret  # type: ignore[no-any-return]
