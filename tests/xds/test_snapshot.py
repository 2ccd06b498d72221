"""A snapshot is a value: content decides its versions, and what Envoy would refuse never becomes one."""

from __future__ import annotations

import random

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

from support.gateway import make_routes
from weighbridge_operator.xds.keys import FILTER, let_in
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, ROUTE, SECRET
from weighbridge_operator.xds.snapshot import SnapshotError, build, derive_salt, pack


def cluster(name: str, secret: str | None = None) -> Cluster:
    message = Cluster(name=name, type=Cluster.EDS)
    if secret is not None:
        context = UpstreamTlsContext()
        added = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=secret)
        added.sds_config.ads.SetInParent()
        message.transport_socket.name = "tls"
        message.transport_socket.typed_config.Pack(context)
    return message


def assignment(name: str, *weights: int, address: str = "127.0.0.1") -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    for port, weight in enumerate(weights, start=8000):
        endpoint = locality.lb_endpoints.add()
        endpoint.endpoint.address.socket_address.address = address
        endpoint.endpoint.address.socket_address.port_value = port
        endpoint.load_balancing_weight.value = weight
    return message


def listener(name: str, route: str) -> Listener:
    manager = HttpConnectionManager()
    manager.rds.route_config_name = route
    manager.rds.config_source.ads.SetInParent()
    message = Listener(name=name)
    message.filter_chains.add().filters.add(name="http").typed_config.Pack(manager)
    return message


def routes(name: str, *clusters: str) -> RouteConfiguration:
    message = RouteConfiguration(name=name)
    host = message.virtual_hosts.add(name="all", domains=["*"])
    host.routes.add().route.cluster = clusters[0]
    weighted = host.routes.add().route.weighted_clusters
    for target in clusters[1:]:
        weighted.clusters.add(name=target)
    return message


def test_order_of_input_has_no_meaning() -> None:
    names = [f"c{number}" for number in range(20)]
    shuffled = random.Random(1).sample(names, len(names))
    straight = build(clusters=map(cluster, names), endpoints=[assignment(n, 1, 2) for n in names])
    mixed = build(clusters=map(cluster, shuffled), endpoints=[assignment(n, 1, 2) for n in shuffled])
    assert straight == mixed
    assert straight.version == mixed.version
    assert list(mixed.clusters) == sorted(names)


def test_a_weight_changes_the_version_of_endpoints_alone() -> None:
    def with_weight(weight: int) -> object:
        return build(
            clusters=[cluster("a"), cluster("b")],
            endpoints=[assignment("a", weight, 1), assignment("b", 1)],
            routes=[routes("r", "a", "b")],
        )

    before, after = with_weight(5), with_weight(6)
    assert {kind for kind in before.versions if before.versions[kind] != after.versions[kind]} == {ENDPOINT}
    assert before.endpoints["a"].version != after.endpoints["a"].version
    assert before.endpoints["b"] == after.endpoints["b"]
    assert before.version != after.version
    assert before.with_endpoints([assignment("a", 6, 1)]) == after
    assert before.with_endpoints([assignment("a", 6, 1)]).version == after.version


def test_references_are_found_in_packed_messages() -> None:
    snapshot = build(
        clusters=[cluster("a", secret="key"), cluster("b")],
        endpoints=[assignment("a", 1), assignment("b", 1)],
        listeners=[listener("l", "r")],
        routes=[routes("r", "a", "b", "from-bootstrap")],
        secrets=[Secret(name="key")],
    )
    assert snapshot.clusters["a"].needs == tuple(sorted([(ENDPOINT, "a"), (SECRET, "key")]))
    assert snapshot.listeners["l"].needs == ((ROUTE, "r"),)
    assert snapshot.routes["r"].needs == ((CLUSTER, "a"), (CLUSTER, "b"), (CLUSTER, "from-bootstrap"))


def test_an_empty_set_and_an_empty_assignment_are_fine() -> None:
    assert build().version == build().version
    assert build(clusters=[cluster("a")], endpoints=[ClusterLoadAssignment(cluster_name="a")]).endpoints.keys() == {"a"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clusters": [Cluster(name="a"), Cluster(name="a")]}, "CDS a: the name is given twice"),
        ({"clusters": [Cluster()]}, "CDS: a resource has no name"),
        ({"clusters": [Listener(name="a")]}, "another type"),
        ({"clusters": [cluster("a")]}, "CDS a: no EDS a"),
        ({"endpoints": [assignment("a", 1)]}, "EDS a: no cluster asks for it"),
        ({"clusters": [cluster("a")], "endpoints": [assignment("a", 0)]}, "EDS a: an endpoint has weight 0"),
        ({"clusters": [cluster("a")], "endpoints": [assignment("a", 2**32 - 1, 1)]}, "add up to more than"),
        ({"clusters": [cluster("a")], "endpoints": [assignment("a", 1, address="node.local")]}, "no IP literal"),
        ({"listeners": [listener("l", "r")]}, "LDS l: no RDS r"),
        ({"clusters": [cluster("a", secret="s")], "endpoints": [assignment("a", 1)]}, "CDS a: no SDS s"),
    ],
)
def test_what_envoy_would_refuse_is_refused_here(given: dict[str, list[object]], message: str) -> None:
    with pytest.raises(SnapshotError, match=message):
        build(**given)


def test_an_assignment_that_nobody_asks_for_cannot_be_slipped_in() -> None:
    with pytest.raises(SnapshotError, match="EDS b: no cluster asks for it"):
        build(clusters=[cluster("a")], endpoints=[assignment("a", 1)]).with_endpoints([assignment("b", 1)])


def test_a_salt_follows_the_secrets_alone_and_so_is_every_replicas() -> None:
    one = {("a", "x"): {"k": b"1", "l": b"2"}, ("b", "y"): {}}
    other = {("b", "y"): {}, ("a", "x"): {"l": b"2", "k": b"1"}}
    assert derive_salt(one) == derive_salt(other)
    swapped = {("a", "x"): {"k": b"2", "l": b"1"}, ("b", "y"): {}}
    changed = (swapped, {("a", "xk"): {"": b"1"}}, {("a", "x"): {"k1": b""}}, {})
    assert len({derive_salt(each) for each in (one, *changed)}) == 5


def test_the_version_of_routes_with_keys_tests_no_guesses() -> None:
    routes = make_routes("routes", "c")
    plain = pack(ROUTE, routes, b"one").version
    assert plain == pack(ROUTE, routes, b"other").version
    host = routes.virtual_hosts[0]
    host.typed_per_filter_config[FILTER].CopyFrom(let_in([("alice", "hunter2")]))
    one, other = pack(ROUTE, routes, b"one"), pack(ROUTE, routes, b"other")
    assert len({plain, one.version, other.version}) == 3
    assert (CLUSTER, "c") in one.needs
    assert "hunter2" not in repr(one)


def test_a_secret_shows_neither_content_nor_a_hash_that_tests_guesses() -> None:
    secret = Secret(name="key")
    secret.generic_secret.secret.inline_string = "hunter2"
    one, other = build(secrets=[secret], salt=b"one"), build(secrets=[secret], salt=b"other")
    assert "hunter2" not in repr(one)
    assert one.secrets["key"].version != other.secrets["key"].version
    assert one.secrets["key"].body == other.secrets["key"].body
