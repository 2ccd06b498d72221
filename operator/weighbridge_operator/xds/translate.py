"""From the gateway model and the weights to one snapshot. Pure: equal inputs give equal bytes in every process.

`translate` is for changes of the objects, `assign_weights` for changes of load: it touches endpoints and nothing else.
With the memo of the translation before, only what differs is made anew; the outcome is the same without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.message import Message

from weighbridge_operator.core import ir
from weighbridge_operator.core.doors import Doors
from weighbridge_operator.state import Pages
from weighbridge_operator.xds import snapshot
from weighbridge_operator.xds.chains import Plan, plan_clusters
from weighbridge_operator.xds.cluster import translate_chain, translate_first, translate_part
from weighbridge_operator.xds.endpoint import assign
from weighbridge_operator.xds.keys import Callers
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LISTENER, ROUTE
from weighbridge_operator.xds.listener import Entrance, translate_listener
from weighbridge_operator.xds.memo import Memo
from weighbridge_operator.xds.names import CERTIFICATE, name_authorities, name_credential, name_first
from weighbridge_operator.xds.precise import count_others, list_choices
from weighbridge_operator.xds.route import translate_routes
from weighbridge_operator.xds.snapshot import Resource, Snapshot, pack

Weights = Mapping[str, Mapping[str, int]]  # pool -> node -> weight
Secrets = Mapping[tuple[str, str], Mapping[str, bytes]]  # (namespace, name) -> entry -> value


def translate(
    gateway: ir.Gateway,
    weights: Weights,
    secrets: Secrets,
    entrance: Entrance,
    salt: bytes = b"",
    doors: Doors = Doors(),  # noqa: B008  # a frozen value
    memo: Memo | None = None,
    authorities: bytes | None = None,
    pages: Mapping[str, Pages] = MappingProxyType({}),
    plan: Plan | None = None,
) -> Snapshot:
    """Everything that the gateway's Envoys should hold. `salt` keys the versions of what holds secrets.

    `authorities`, in PEM, are those of the system, needed where a node has TLS and names none.
    `pages`: where nodes print their metrics, for the choice per request; `plan`: that of the gateway, if it is known.
    """
    memo = memo or Memo()
    memo.turn()
    plan = plan or plan_clusters(gateway)
    routes, needs = translate_routes(gateway, plan, entrance, _callers(entrance, doors), memo)
    return snapshot.build(
        clusters=[*_clusters(plan, memo)],
        endpoints=[_pack_assignment(pool, part, weights, memo) for pool in gateway.pools for part in pool.parts],
        listeners=[_pack_listener(entrance, bool(plan.precise), memo)],
        routes=[replace(pack(ROUTE, routes, salt, needs), leads=_leads(plan))],
        runtimes=[
            list_choices({name: plan.parts[name] for name in sorted(plan.precise)}, pages),
            count_others({}, (), None, 1),
        ],
        secrets=[*_secrets(gateway, secrets, authorities), *_certificate(doors)],
        salt=salt,
        awaited=frozenset({CERTIFICATE}) if entrance.tls else frozenset(),
    )


def _leads(plan: Plan) -> frozenset[tuple[str, str]]:
    clusters = {part.name: name for name, part in plan.parts.items()}
    return frozenset(
        (clusters[part.name], served) for pool in plan.pools.values() for part in pool.parts for served in pool.serves
    )


def _clusters(plan: Plan, memo: Memo) -> Iterator[Resource | Message]:
    followed = plan.followed
    for name, part in plan.parts.items():
        told = (part, name in plan.adapting, plan.budgets.get(name, 0.0), name in plan.precise, name in followed)
        yield _pack_part(told, memo)
    for name, members in plan.chains.items():
        adapts, budget = name in plan.adapting, plan.budgets[name]
        yield translate_chain(name, members, adapts, budget, plan.credentials(members), plan.format(members))
    for chain in sorted(plan.firsts):
        members = plan.chains[chain]
        adapts, budget = chain in plan.adapting, plan.budgets[chain]
        sent = plan.credentials(members), plan.format(members)
        yield translate_first(name_first(chain), members[0], chain, adapts, budget, *sent)


def assign_weights(before: Snapshot, gateway: ir.Gateway, weights: Weights) -> Snapshot:
    """The snapshot with other weights. `weights` may name only the pools that changed."""
    changed = ir.Gateway(tuple(pool for pool in gateway.pools if pool.name in weights))
    return before.with_endpoints(_assignments(changed, weights))


def _assignments(gateway: ir.Gateway, weights: Weights) -> Iterator[Message]:
    for pool in gateway.pools:
        for part in pool.parts:
            yield assign(part, weights.get(pool.name, {}))


def _pack_listener(entrance: Entrance, asks: bool, memo: Memo) -> Resource:
    return memo.recall(LISTENER, (entrance, asks), lambda: pack(LISTENER, translate_listener(entrance, asks)))


def _pack_part(told: tuple[ir.Part, bool, float, bool, bool], memo: Memo) -> Resource:
    """`told`: what translate_part takes."""
    return memo.recall((CLUSTER, told[0].name), told, lambda: pack(CLUSTER, translate_part(*told)))


def _pack_assignment(pool: ir.Pool, part: ir.Part, weights: Weights, memo: Memo) -> Resource:
    by_node = weights.get(pool.name, {})
    told = tuple(by_node.get(endpoint.node) for endpoint in part.endpoints)
    return memo.recall((ENDPOINT, part.name), (part, told), lambda: pack(ENDPOINT, assign(part, by_node)))


def _secrets(gateway: ir.Gateway, secrets: Secrets, system: bytes | None) -> list[Message]:
    found: dict[str, Message] = {}
    for part in (part for pool in gateway.pools for part in pool.parts):
        if part.credential is not None:
            name = name_credential(part.credential, part.format)
            key = secrets[part.credential[:2]][part.credential[2]].strip()
            found[name] = _credential(name, b"Bearer " + key if part.format == "openai" else key)
        for endpoint in part.endpoints:
            if endpoint.tls is not None:
                ca, name = endpoint.tls.ca, name_authorities(endpoint.tls.ca)
                found[name] = _authorities(name, secrets[ca]["ca.crt"] if ca else system or b"")
    return list(found.values())


def _callers(entrance: Entrance, doors: Doors) -> Callers | None:
    return (doors.callers or ()) if entrance.keys else None


def _certificate(doors: Doors) -> Iterator[Message]:
    if doors.certificate is not None:
        secret = Secret(name=CERTIFICATE)
        secret.tls_certificate.certificate_chain.inline_bytes = doors.certificate.certificate
        secret.tls_certificate.private_key.inline_bytes = doors.certificate.key
        yield secret


def _credential(name: str, told: bytes) -> Message:
    secret = Secret(name=name)
    secret.generic_secret.secret.inline_bytes = told
    return secret  # type: ignore[no-any-return]


def _authorities(name: str, certificates: bytes) -> Message:
    secret = Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = certificates
    return secret  # type: ignore[no-any-return]
