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
    """One target for each server that prints metrics somewhere, sorted by its name."""
    endpoints = {e.node: e for pool in resolved.gateway.pools for e in pool.endpoints}
    nodes = {node.id: node for node in resolved.nodes}
    trusts: dict[ir.Tls, ssl.SSLContext | None] = {}
    targets = []
    for name in sorted(endpoints):
        endpoint = endpoints[name]
        pages = _pages(nodes[endpoint.model_node], endpoint)
        if endpoint.tls is not None and endpoint.tls not in trusts:
            trusts[endpoint.tls] = _context(endpoint.tls, desired)
        if pages:
            targets.append(_target(endpoint, pages, trusts.get(endpoint.tls) if endpoint.tls else None))
    return tuple(targets)


def list_owners(gateway: ir.Gateway) -> Owners:
    """(cluster, "ip:port") -> (pool, node) for every endpoint."""
    return {
        (name_cluster(part.name), print_address(endpoint.address, endpoint.port)): (pool.name, endpoint.node)
        for pool in gateway.pools
        for part in pool.parts
        for endpoint in part.endpoints
    }


def _pages(node: ModelNode, endpoint: ir.Endpoint) -> tuple[tuple[int, str], ...]:
    if node.spec.metrics is not None:
        return tuple((scrape.port, scrape.path) for scrape in node.spec.metrics.scrape)
    return ((endpoint.port, "/metrics"),) if endpoint.engine in ir.PUBLISHING else ()


def _target(endpoint: ir.Endpoint, pages: tuple[tuple[int, str], ...], trust: ssl.SSLContext | None) -> ScrapeTarget:
    # Exporters beside the engine listen on ports of their own and speak plain HTTP.
    urls = []
    for port, path in pages:
        scheme = "https" if endpoint.tls and port == endpoint.port else "http"
        urls.append(f"{scheme}://{print_address(endpoint.address, port)}{path}")
    name = endpoint.tls.server_name if endpoint.tls else endpoint.hostname
    return ScrapeTarget(endpoint.node, endpoint.engine, tuple(urls), host=name, tls=trust)


def _context(tls: ir.Tls, desired: DesiredState) -> ssl.SSLContext | None:
    if tls.ca is None:
        return None
    authorities = desired.secrets[tls.ca]["ca.crt"].decode("utf-8", "replace")
    try:
        return ssl.create_default_context(cadata=authorities)
    except ssl.SSLError:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
