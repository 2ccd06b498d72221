"""All that one gateway's Envoys should hold at one moment, as bytes: a value, so that equality is meaning.

Versions are content: the same messages give the same versions in every process and after every restart, so nothing is
sent twice and a counter can't collide with itself. The version of a secret, or of routes with callers' keys, is keyed
by a salt, or it would let anyone who reads a status test guesses of the secret; with another salt it is sent once more,
which Envoy ignores if it is equal.

Envoy refuses a whole response for one bad resource, and a cluster whose assignment was refused goes live empty. So what
can be known to be wrong is refused here, before anything is published; these errors are faults of ours, never a user's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import MappingProxyType

from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.message import Message

from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, KINDS, LABELS, LISTENER, ROUTE, RUNTIME, SECRET
from weighbridge_operator.xds.references import Reference, find_references

WEIGHT_LIMIT = 2**32 - 1  # of the sum within one locality and priority


class SnapshotError(ValueError):
    """A snapshot that Envoy would refuse or that would cut traffic; the message names the resource."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One xDS resource, serialised. `needs` are the (type URL, name) that it refers to, sorted.

    `leads`, of routes: (cluster, what is asked for), for all that the nodes there are chosen to serve.
    """

    type_url: str
    name: str
    version: str
    body: bytes = field(repr=False)
    needs: tuple[Reference, ...] = ()
    leads: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources by type URL and name, complete for every type."""

    resources: Mapping[str, Mapping[str, Resource]]
    versions: Mapping[str, str] = field(compare=False)  # type URL -> version of the whole set

    def of(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of one type, sorted by name."""
        return self.resources[type_url]

    def get(self, type_url: str, name: str) -> Resource | None:
        return self.resources[type_url].get(name)

    @property
    def clusters(self) -> Mapping[str, Resource]:
        return self.resources[CLUSTER]

    @property
    def endpoints(self) -> Mapping[str, Resource]:
        return self.resources[ENDPOINT]

    @property
    def listeners(self) -> Mapping[str, Resource]:
        return self.resources[LISTENER]

    @property
    def routes(self) -> Mapping[str, Resource]:
        return self.resources[ROUTE]

    @property
    def secrets(self) -> Mapping[str, Resource]:
        return self.resources[SECRET]

    @property
    def version(self) -> str:
        """One version for all of it, but for what is told every other second."""
        return _digest("".join(self.versions[kind] for kind in KINDS if kind != RUNTIME).encode())

    def with_endpoints(self, endpoints: Iterable[Message]) -> Snapshot:
        """The same snapshot with these assignments in place of its own of the same names: what a load change is."""
        changed = _pack_all(ENDPOINT, endpoints, b"")
        for name in changed:
            if name not in self.endpoints:
                raise SnapshotError(f"EDS {name}: no cluster asks for it")
        return self._merge(ENDPOINT, changed)

    def with_runtime(self, layer: Message) -> Snapshot:
        """The same snapshot with this layer of the runtime in place of its own of the same name."""
        return self._merge(RUNTIME, _pack_all(RUNTIME, [layer], b""))

    def with_more(self, *resources: Resource) -> Snapshot:
        """The same snapshot with these as well, which refer to nothing that is not there."""
        more = self
        for kind in sorted({resource.type_url for resource in resources}):
            more = more._merge(kind, {each.name: each for each in resources if each.type_url == kind})
        return more

    def _merge(self, kind: str, changed: Mapping[str, Resource]) -> Snapshot:
        merged = _sorted({**self.resources[kind], **changed})
        return replace(
            self,
            resources=MappingProxyType({**self.resources, kind: merged}),
            versions=MappingProxyType({**self.versions, kind: combine_versions(merged.values())}),
        )


def build(
    *,
    clusters: Iterable[Message | Resource] = (),
    endpoints: Iterable[Message | Resource] = (),
    listeners: Iterable[Message | Resource] = (),
    routes: Iterable[Message | Resource] = (),
    secrets: Iterable[Message] = (),
    runtimes: Iterable[Message] = (),
    salt: bytes = b"",
    awaited: frozenset[str] = frozenset(),
) -> Snapshot:
    """A checked snapshot of these messages, or of what `pack` made of them, in any order. Raises SnapshotError.

    `awaited` are secrets that may be missing: what refers to them waits, or goes on with what it holds.
    """
    given: dict[str, Iterable[Message | Resource]] = {
        CLUSTER: clusters,
        ENDPOINT: endpoints,
        SECRET: secrets,
        LISTENER: listeners,
        ROUTE: routes,
        RUNTIME: runtimes,
    }
    resources = {kind: _sorted(_pack_all(kind, given[kind], salt)) for kind in KINDS}
    _check_references(resources, awaited)
    return Snapshot(
        resources=MappingProxyType(resources),
        versions=MappingProxyType({kind: combine_versions(resources[kind].values()) for kind in KINDS}),
    )


def derive_salt(secrets: Mapping[tuple[str, str], Mapping[str, bytes]]) -> bytes:
    """A salt that every replica finds from equal secrets, slowly: each guess costs 16 MiB and some 40 ms."""
    text = hashlib.sha256()
    for place, entries in sorted(secrets.items()):
        for entry, value in sorted(entries.items()):
            for part in (*place, entry):
                text.update(hashlib.sha256(part.encode()).digest())
            text.update(hashlib.sha256(value).digest())
    return hashlib.scrypt(text.digest(), salt=b"weighbridge versions", n=2**14, r=8, p=1, dklen=16)


def empty_assignment(name: str) -> Resource:
    """No endpoints: what keeps a cluster from waiting for an assignment that it refused."""
    return pack(ENDPOINT, ClusterLoadAssignment(cluster_name=name))


def combine_versions(resources: Iterable[Resource]) -> str:
    """The version of a set of resources, given in the order of their names."""
    return _digest("\n".join(f"{resource.name} {resource.version}" for resource in resources).encode())


def _sorted(resources: Mapping[str, Resource]) -> Mapping[str, Resource]:
    return MappingProxyType(dict(sorted(resources.items())))


def _pack_all(kind: str, messages: Iterable[Message | Resource], salt: bytes) -> dict[str, Resource]:
    packed: dict[str, Resource] = {}
    for message in messages:
        resource = message if isinstance(message, Resource) else pack(kind, message, salt)
        if resource.name in packed:
            raise SnapshotError(f"{LABELS[kind]} {resource.name}: the name is given twice")
        packed[resource.name] = resource
    return packed


def pack(kind: str, message: Message, salt: bytes = b"", needs: tuple[Reference, ...] | None = None) -> Resource:
    """One checked resource. `needs`: what it refers to, where that is known already. Raises SnapshotError."""
    if message.DESCRIPTOR.full_name != kind.rpartition("/")[2]:
        raise SnapshotError(f"{LABELS[kind]}: {message.DESCRIPTOR.full_name} is another type")
    name: str = message.cluster_name if kind == ENDPOINT else message.name  # type: ignore[attr-defined]
    if not name:
        raise SnapshotError(f"{LABELS[kind]}: a resource has no name")
    if kind == ENDPOINT:
        _check_assignment(name, message)
    body = message.SerializeToString(deterministic=True)
    if needs is None:
        needs = () if kind in (ENDPOINT, SECRET, RUNTIME) else find_references(message)
    if kind == SECRET or (kind == ROUTE and _holds_keys(message)):
        return Resource(kind, name, hmac.new(salt, body, "sha256").hexdigest()[:16], body, needs)
    return Resource(kind, name, _digest(body), body, needs)


def _holds_keys(routes: Message) -> bool:
    return any(host.typed_per_filter_config for host in routes.virtual_hosts)  # type: ignore[attr-defined]


def _check_assignment(name: str, assignment: Message) -> None:
    for locality in assignment.endpoints:  # type: ignore[attr-defined]
        if locality.HasField("load_balancing_weight") and locality.load_balancing_weight.value == 0:
            raise SnapshotError(f"EDS {name}: a locality has weight 0")
        total = 0
        for endpoint in locality.lb_endpoints:
            total += _check_endpoint(name, endpoint)
        if total > WEIGHT_LIMIT:
            raise SnapshotError(f"EDS {name}: the weights of one locality add up to more than {WEIGHT_LIMIT}")


def _check_endpoint(name: str, endpoint: Message) -> int:
    weight = 1
    if endpoint.HasField("load_balancing_weight"):
        weight = endpoint.load_balancing_weight.value  # type: ignore[attr-defined]
        if weight == 0:
            raise SnapshotError(f"EDS {name}: an endpoint has weight 0; drain it instead")
    address = endpoint.endpoint.address  # type: ignore[attr-defined]
    if address.HasField("socket_address"):
        literal = address.socket_address.address
        try:
            ip_address(literal)
        except ValueError:
            raise SnapshotError(f"EDS {name}: {literal!r} is no IP literal; names are resolved before") from None
    return weight


def _check_references(resources: Mapping[str, Mapping[str, Resource]], awaited: frozenset[str]) -> None:
    # A route may name a cluster of Envoy's own bootstrap, so only what must come from here is looked up.
    wanted = {ENDPOINT: set[str](), ROUTE: set[str](), SECRET: set[str]()}
    for kind in (CLUSTER, LISTENER, ROUTE):
        for resource in resources[kind].values():
            for needed_kind, needed in resource.needs:
                if needed_kind in wanted:
                    wanted[needed_kind].add(needed)
                    if needed not in resources[needed_kind] and not (needed_kind == SECRET and needed in awaited):
                        raise SnapshotError(f"{LABELS[kind]} {resource.name}: no {LABELS[needed_kind]} {needed}")
    for name in resources[ENDPOINT]:
        if name not in wanted[ENDPOINT]:
            raise SnapshotError(f"EDS {name}: no cluster asks for it")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
