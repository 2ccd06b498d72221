"""Endpoints and their weights. Built field by field, not from JSON: this is what a tick does for a thousand nodes."""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.message import Message

from weighbridge_operator.core import ir
from weighbridge_operator.xds.names import METADATA, name_cluster, name_credential, name_tls

DEFAULT_WEIGHT = 1024
#: A chain moves on to its next pool only when no node of this one is left: any healthy share counts as all of it.
_OVERPROVISIONING = 100_000


def assign(part: ir.Part, weights: Mapping[str, int]) -> Message:
    """The part's endpoints with their weights (by node; DEFAULT_WEIGHT where none is known)."""
    assignment = ClusterLoadAssignment(cluster_name=name_cluster(part.name))
    assignment.policy.overprovisioning_factor.value = _OVERPROVISIONING
    if not part.endpoints:
        return assignment  # type: ignore[no-any-return]
    locality = assignment.endpoints.add()
    for endpoint in part.endpoints:
        added = locality.lb_endpoints.add()
        added.load_balancing_weight.value = weights.get(endpoint.node, DEFAULT_WEIGHT)
        target = added.endpoint
        target.address.socket_address.address = endpoint.address
        target.address.socket_address.port_value = endpoint.port
        if endpoint.hostname:
            target.hostname = endpoint.hostname
            target.health_check_config.hostname = endpoint.hostname
        told = added.metadata.filter_metadata[METADATA].fields
        told["node"].string_value = endpoint.node.partition("/")[2]
        told["served"].string_value = list_served(endpoint)
        if part.credential is not None:
            told["credential"].string_value = name_credential(part.credential, part.format)
        if endpoint.tls is not None:
            matched = added.metadata.filter_metadata["envoy.transport_socket_match"].fields
            matched["tls"].string_value = name_tls(endpoint.tls)
    return assignment  # type: ignore[no-any-return]


def base_of(endpoint: ir.Endpoint) -> str:
    """What stands before the caller's path without its /v1; "" at the node's root."""
    return endpoint.base_path.rstrip("/")


def names_of(endpoint: ir.Endpoint) -> dict[str, str]:
    """How the node names what may be asked of it: `model` and `model@version`. Of several versions the first listed."""
    names: dict[str, str] = {}
    for served in endpoint.served:
        names.setdefault(served.model, served.name)
        if served.version is not None:
            names[f"{served.model}@{served.version}"] = served.name
    return names


def list_served(endpoint: ir.Endpoint) -> str:
    """Base path and names as adapt.lua reads them: "/v1;model=name;model=name;". A path has no semicolon."""
    return base_of(endpoint) + ";" + "".join(f"{key}={name};" for key, name in sorted(names_of(endpoint).items()))
