"""What is asked for load, derived from the objects: each node's metrics, and whose requests Envoy's counts are."""

from __future__ import annotations

import ssl

from weighbridge_api.modelnode import ModelNode
from weighbridge_operator.core import ir
from weighbridge_operator.core.resolve import Resolved
from weighbridge_operator.sources.rounds import Owners
from weighbridge_operator.sources.scrape import ScrapeTarget
from weighbridge_operator.state import DesiredState
from weighbridge_operator.xds.names import name_cluster, print_address


def list_targets(resolved: Resolved, desired: DesiredState) -> tuple[ScrapeTarget, ...]:
    """One target for each node that prints metrics somewhere, sorted by node."""
    endpoints = {e.node: e for pool in resolved.gateway.pools for e in pool.endpoints}
    targets = (
        _target(node, endpoints[node.id], desired) for node in resolved.nodes if node.id in endpoints and _pages(node)
    )
    return tuple(sorted(targets, key=lambda target: target.node))


def list_owners(gateway: ir.Gateway) -> Owners:
    """(cluster, "ip:port") -> (pool, node) for every endpoint."""
    return {
        (name_cluster(part.name), print_address(endpoint.address, endpoint.port)): (pool.name, endpoint.node)
        for pool in gateway.pools
        for part in pool.parts
        for endpoint in part.endpoints
    }


def _pages(node: ModelNode) -> tuple[tuple[int, str], ...]:
    spec = node.spec
    if spec.metrics is not None:
        return tuple((scrape.port, scrape.path) for scrape in spec.metrics.scrape)
    return ((spec.address.port, "/metrics"),) if spec.engine in ir.PUBLISHING else ()


def _target(node: ModelNode, endpoint: ir.Endpoint, desired: DesiredState) -> ScrapeTarget:
    # Exporters beside the engine listen on ports of their own and speak plain HTTP.
    urls = []
    for port, path in _pages(node):
        scheme = "https" if endpoint.tls and port == endpoint.port else "http"
        urls.append(f"{scheme}://{print_address(endpoint.address, port)}{path}")
    name = endpoint.tls.server_name if endpoint.tls else endpoint.hostname
    return ScrapeTarget(node.id, endpoint.engine, tuple(urls), host=name, tls=_context(endpoint.tls, desired))


def _context(tls: ir.Tls | None, desired: DesiredState) -> ssl.SSLContext | None:
    if tls is None or tls.ca is None:
        return None
    authorities = desired.secrets[tls.ca]["ca.crt"].decode("utf-8", "replace")
    try:
        return ssl.create_default_context(cadata=authorities)
    except ssl.SSLError:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
