"""The six kinds of xDS resources that we serve: their type URLs, and the order in which they are made.

Make before break: a resource is sent after what it refers to and withdrawn before it
(https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations).
"""

from __future__ import annotations

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  # a type, no secret

RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"

#: In the order of making. The last refers to nothing and nothing to it.
KINDS = (CLUSTER, ENDPOINT, SECRET, LISTENER, ROUTE, RUNTIME)

#: As the field calls the services that carry them.
LABELS = {CLUSTER: "CDS", ENDPOINT: "EDS", SECRET: "SDS", LISTENER: "LDS", ROUTE: "RDS", RUNTIME: "RTDS"}

#: Each response of these kinds is the complete set: what it leaves out is deleted. The others are sent one by one.
COMPLETE = frozenset({CLUSTER, LISTENER})
