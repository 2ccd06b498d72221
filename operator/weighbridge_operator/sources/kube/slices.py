"""Services and EndpointSlices as our own words.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices

Pure. A pod may stand in several slices: of both address families, or of two slices while the cluster sorts them anew.
It counts once, by its IPv4 address where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from weighbridge_operator.state import ServiceEndpoint, ServiceState

LABEL = "kubernetes.io/service-name"
Ports = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """What one EndpointSlice says of a Service."""

    service: str
    endpoints: tuple[ServiceEndpoint, ...]


def read_service(raw: Mapping[str, Any]) -> Ports:
    """The ports of a Service, (name, number), sorted; a single port may have no name."""
    ports = raw.get("spec", {}).get("ports") or ()
    return tuple(sorted((str(port.get("name") or ""), int(port["port"])) for port in ports))


def read_slice(raw: Mapping[str, Any]) -> Slice | None:
    """None where it belongs to no Service, or holds names instead of addresses."""
    service = (raw["metadata"].get("labels") or {}).get(LABEL)
    if not service or raw.get("addressType") not in ("IPv4", "IPv6"):
        return None
    ports = tuple(
        sorted((str(port.get("name") or ""), int(port["port"])) for port in raw.get("ports") or () if port.get("port"))
    )
    return Slice(str(service), tuple(_read_endpoints(raw.get("endpoints") or (), ports)))


def _read_endpoints(endpoints: Iterable[Mapping[str, Any]], ports: Ports) -> Iterator[ServiceEndpoint]:
    for endpoint in endpoints:
        conditions = endpoint.get("conditions") or {}
        target = endpoint.get("targetRef") or {}
        addresses = endpoint.get("addresses") or ()
        if not addresses:
            continue
        yield ServiceEndpoint(
            address=str(ip_address(addresses[0])),
            pod=str(target.get("name") or "") if target.get("kind") == "Pod" else "",
            ports=ports,
            ready=conditions.get("ready") is not False,  # unknown counts as ready, as Kubernetes says
            terminating=bool(conditions.get("terminating")),
        )


def merge(ports: Ports, slices: Iterable[Slice]) -> ServiceState:
    """The Service with each of its endpoints once, sorted."""
    best: dict[str, ServiceEndpoint] = {}
    for endpoint in sorted(each for piece in slices for each in piece.endpoints):
        name = endpoint.pod or endpoint.address
        if name not in best or _rank(endpoint) < _rank(best[name]):
            best[name] = endpoint
    return ServiceState(ports, tuple(sorted(best.values())))


def _rank(endpoint: ServiceEndpoint) -> tuple[bool, bool, int]:
    return (endpoint.terminating, not endpoint.ready, ip_address(endpoint.address).version)
