"""What the cluster asks for, as one value; and what its nodes refer to. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.sources.kube.ledger import Ledger
from weighbridge_operator.state import DesiredState, EnvoyPlace, EnvoyPlaces, Rejection, ServiceState
from weighbridge_operator.xds.names import print_address

Key = tuple[str, str]  # namespace, name
#: The entries of each Secret that are referenced; None is every one.
Wanted = Mapping[Key, frozenset[str] | None]
STATS = "stats"  # the port where an Envoy shows its statistics


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What the loop takes from a source. Problems are of files; in a cluster each object has its own conditions."""

    desired: DesiredState
    problems: tuple[str, ...] = ()

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        return self.desired.rejections


def gather(
    ledgers: Iterable[Ledger],
    services: Mapping[Key, ServiceState],
    secrets: Mapping[Key, Mapping[str, bytes]],
    own: ServiceState | None = None,
) -> ClusterState:
    """The state that these make up; `own` is the Service of the gateway's Envoys."""
    ledgers = tuple(ledgers)
    found = [item for ledger in ledgers for item in ledger.objects]
    named = find_services(item for item in found if isinstance(item, ModelNode))
    return ClusterState(
        DesiredState(
            nodes=tuple(item for item in found if isinstance(item, ModelNode)),
            policies=tuple(item for item in found if isinstance(item, RoutePolicy)),
            secrets=secrets,
            rejections=tuple(sorted((r for ledger in ledgers for r in ledger.rejections), key=lambda r: r.ref)),
            services={key: state for key, state in services.items() if key in named},
            envoys=frozenset(endpoint.address for endpoint in own.endpoints) if own else frozenset(),
        )
    )


def find_envoys(service: ServiceState | None) -> EnvoyPlaces:
    """Every Envoy behind the gateway's own Service; one that is on its way out, or not yet ready, may be silent."""
    places = {}
    for endpoint in service.endpoints if service else ():
        port = dict(endpoint.ports).get(STATS)
        if port is not None:
            url = f"http://{print_address(endpoint.address, port)}"
            places[endpoint.pod or endpoint.address] = EnvoyPlace(url, endpoint.ready and not endpoint.terminating)
    return dict(sorted(places.items()))


def find_services(nodes: Iterable[ModelNode]) -> frozenset[Key]:
    """The Services that the nodes name."""
    return frozenset(
        (node.metadata.namespace, node.spec.service.name) for node in nodes if node.spec.service is not None
    )


def find_secrets(nodes: Iterable[ModelNode], own: Wanted) -> Wanted:
    """The entries of Secrets that the nodes refer to, and the gateway itself."""
    found: dict[Key, set[str]] = defaultdict(set)
    for node in nodes:
        namespace, spec = node.metadata.namespace, node.spec
        if spec.tls is not None and spec.tls.ca_secret_ref is not None:
            found[namespace, spec.tls.ca_secret_ref.name].add("ca.crt")
        if spec.credentials is not None:
            found[namespace, spec.credentials.secret_ref.name].add(spec.credentials.secret_ref.key)
    return {key: frozenset(entries) for key, entries in found.items()} | {
        key: entries if entries is None else entries | found.get(key, set()) for key, entries in own.items()
    }
