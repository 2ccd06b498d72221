"""Envoy's composite cluster: each try of a request has a cluster of its own, the first the first of the list.

Made known here by hand, for xds-protos 1.85 has no descriptor of it; its fields are those of Envoy 1.40's
api/envoy/extensions/clusters/composite/v3/cluster.proto that are used.
"""

from __future__ import annotations

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

PACKAGE = "envoy.extensions.clusters.composite.v3"
CONFIG = f"{PACKAGE}.ClusterConfig"


def _describe() -> FileDescriptorProto:
    """`clusters` is a list of messages with a `name`."""
    text, inner = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_MESSAGE
    name = FieldDescriptorProto(name="name", number=1, type=text, label=FieldDescriptorProto.LABEL_OPTIONAL)
    clusters = FieldDescriptorProto(
        name="clusters",
        number=1,
        type=inner,
        type_name=f".{CONFIG}.ClusterEntry",
        label=FieldDescriptorProto.LABEL_REPEATED,
    )
    entry = DescriptorProto(name="ClusterEntry", field=[name])
    config = DescriptorProto(name="ClusterConfig", field=[clusters], nested_type=[entry])
    return FileDescriptorProto(
        name="weighbridge/envoy_composite.proto", package=PACKAGE, syntax="proto3", message_type=[config]
    )


descriptor_pool.Default().AddSerializedFile(_describe().SerializeToString())
