"""What a resource refers to, found by walking its message: nothing is declared twice, so nothing can be forgotten.

Packed extensions (`Any`) are opened when their type is loaded; a `TypedStruct` stays closed, and what it names is
not seen. Only references that are served over ADS count: a certificate in a file needs nobody's order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from weighbridge_operator.xds import composite
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, ROUTE, SECRET
from weighbridge_operator.xds.names import METADATA

Reference = tuple[str, str]  # type URL, name
#: What names a cluster in its field `cluster`, if any.
_BY_CLUSTER = (
    "envoy.config.route.v3.RouteAction",
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
    "envoy.config.core.v3.HttpUri",
)


def find_references(message: Message) -> tuple[Reference, ...]:
    """Every (type, name) that the message refers to, sorted, each once."""
    return tuple(sorted({found for part in _walk(message) for found in _references_of(part)}))


def _references_of(part: Message) -> Iterator[Reference]:
    match part.DESCRIPTOR.full_name:
        case "envoy.config.cluster.v3.Cluster" if part.type == part.EDS:  # type: ignore[attr-defined]
            yield ENDPOINT, assignment_name(part)
        case kind if kind in _BY_CLUSTER and part.cluster:  # type: ignore[attr-defined]
            yield CLUSTER, part.cluster  # type: ignore[attr-defined]
        case "envoy.config.route.v3.WeightedCluster.ClusterWeight" if part.name:  # type: ignore[attr-defined]
            yield CLUSTER, part.name  # type: ignore[attr-defined]
        case "envoy.extensions.clusters.aggregate.v3.ClusterConfig":
            yield from ((CLUSTER, name) for name in part.clusters)  # type: ignore[attr-defined]
        case composite.CONFIG:
            yield from ((CLUSTER, entry.name) for entry in part.clusters)  # type: ignore[attr-defined]
        case "envoy.config.route.v3.Route":
            yield from _named_by(part)
        case "envoy.config.core.v3.GrpcService.EnvoyGrpc":
            yield CLUSTER, part.cluster_name  # type: ignore[attr-defined]
        case "envoy.extensions.filters.network.http_connection_manager.v3.Rds":
            yield ROUTE, part.route_config_name  # type: ignore[attr-defined]
        case "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig" if part.HasField("sds_config"):
            yield SECRET, part.name  # type: ignore[attr-defined]
        case _:
            return


def _named_by(route: Message) -> Iterator[Reference]:
    """The clusters that a data plane may name for a request of the route: it is told them in the route's metadata."""
    told = route.metadata.filter_metadata  # type: ignore[attr-defined]
    asks = told[METADATA].fields["precise"].string_value if METADATA in told and "precise" in told[METADATA] else ""
    yield from ((CLUSTER, name) for name in (json.loads(asks).get("via", ()) if asks else ()))


def assignment_name(cluster: Message) -> str:
    """The name under which Envoy asks for the endpoints of an EDS cluster."""
    return cluster.eds_cluster_config.service_name or cluster.name  # type: ignore[attr-defined, no-any-return]


def _walk(message: Message) -> Iterator[Message]:
    if isinstance(message, PackedAny):
        opened = _open(message)
        if opened is not None:
            yield from _walk(opened)
        return
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        for child in _children(descriptor, value):
            yield from _walk(child)


def _children(descriptor: FieldDescriptor, value: object) -> Iterator[Message]:
    nested = descriptor.message_type
    if nested is not None and nested.GetOptions().map_entry:
        if nested.fields_by_name["value"].type == FieldDescriptor.TYPE_MESSAGE:
            yield from value.values()  # type: ignore[attr-defined]
    elif isinstance(value, Message):
        yield value
    else:
        yield from value  # type: ignore[misc]


def _open(packed: PackedAny) -> Message | None:
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
    except KeyError:
        return None
    opened = message_factory.GetMessageClass(descriptor)()
    opened.ParseFromString(packed.value)
    return opened
