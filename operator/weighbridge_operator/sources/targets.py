"""What is asked for load, derived from the objects: each node's metrics, and whose requests Envoy's counts are."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace

from weighbridge_api.metrics import Prometheus
from weighbridge_api.modelnode import ModelNode
from weighbridge_metrics.mapping import FIELDS, build_table
from weighbridge_operator.core import ir
from weighbridge_operator.core.engines import HABITS
from weighbridge_operator.core.resolve import Resolved
from weighbridge_operator.sources.prometheus_answers import OwnQuery, Wanted
from weighbridge_operator.sources.rounds import Owners
from weighbridge_operator.sources.scrape import ScrapeTarget
from weighbridge_operator.state import DesiredState, Pages
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
            trust = trusts.get(endpoint.tls) if endpoint.tls else None
            target = _target(endpoint, pages, trust, nodes[endpoint.model_node])
            targets.append(replace(target, key=_key(nodes[endpoint.model_node], desired)))
    return tuple(targets)


def list_wanted(resolved: Resolved) -> tuple[Wanted, ...]:
    """The servers to look for in Prometheus, sorted by name: those that say so, and those that say nothing of load."""
    endpoints = {e.node: e for pool in resolved.gateway.pools for e in pool.endpoints}
    nodes = {node.id: node for node in resolved.nodes}
    every = (_wanted(nodes[endpoints[name].model_node], endpoints[name]) for name in sorted(endpoints))
    return tuple(each for each in every if each is not None)


def list_pages(resolved: Resolved) -> dict[str, Pages]:
    """By node, the pages that anybody may read: no key and no trust of ours goes beyond this process."""
    endpoints = {e.node: e for pool in resolved.gateway.pools for e in pool.endpoints}
    nodes = {node.id: node for node in resolved.nodes}
    found = {}
    for name, endpoint in endpoints.items():
        node = nodes[endpoint.model_node]
        pages = _pages(node, endpoint)
        if pages and endpoint.tls is None and node.spec.credentials is None:
            urls = tuple(f"http://{print_address(endpoint.address, port)}{path}" for port, path in pages)
            found[name] = Pages(urls, _print_mapping(node))
    return found


def _print_mapping(node: ModelNode) -> str:
    mapping = node.spec.metrics.mapping if node.spec.metrics else None
    if not mapping:
        return ""
    told = {
        signal: mapped.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for signal, mapped in mapping.items()
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def list_owners(gateway: ir.Gateway) -> Owners:
    """(cluster, "ip:port") -> (pool, node) for every endpoint."""
    return {
        (name_cluster(part.name), print_address(endpoint.address, endpoint.port)): (pool.name, endpoint.node)
        for pool in gateway.pools
        for part in pool.parts
        for endpoint in part.endpoints
    }


def _pages(node: ModelNode, endpoint: ir.Endpoint) -> tuple[tuple[int, str], ...]:
    metrics = node.spec.metrics
    if metrics is not None and (metrics.scrape or metrics.mapping is None):
        return tuple((scrape.port, scrape.path) for scrape in metrics.scrape or ())
    path = HABITS[node.spec.engine].metrics
    return ((endpoint.port, path),) if path else ()


def _wanted(node: ModelNode, endpoint: ir.Endpoint) -> Wanted | None:
    metrics = node.spec.metrics
    if metrics is not None and metrics.prometheus is None:
        return None
    asked = metrics.prometheus if metrics and metrics.prometheus else Prometheus()
    labels = dict(asked.match)
    pod = endpoint.node[len(endpoint.model_node) + 1 :]
    if pod and pod != endpoint.address:
        labels |= {"namespace": node.metadata.namespace, "pod": pod}
    hosts = frozenset({endpoint.address} | ({endpoint.hostname} if endpoint.hostname and not pod else set()))
    ports = {endpoint.port, *(port for port, _ in _pages(node, endpoint))}
    return Wanted(
        endpoint.node,
        endpoint.engine,
        labels=tuple(sorted(labels.items())),
        instances=frozenset(print_address(host, port) for host in hosts for port in ports),
        hosts=hosts,
        own=tuple(OwnQuery(FIELDS[signal], text, asked.times.get(signal)) for signal, text in asked.queries.items()),
        required=metrics is not None,
    )


def _target(
    endpoint: ir.Endpoint, pages: tuple[tuple[int, str], ...], trust: ssl.SSLContext | None, node: ModelNode
) -> ScrapeTarget:
    # Exporters beside the engine listen on ports of their own and speak plain HTTP.
    urls, own = [], set()
    for port, path in pages:
        scheme = "https" if endpoint.tls and port == endpoint.port else "http"
        urls.append(f"{scheme}://{print_address(endpoint.address, port)}{path}")
        if port == endpoint.port:
            own.add(urls[-1])
    name = endpoint.tls.server_name if endpoint.tls else endpoint.hostname
    mapping = node.spec.metrics.mapping if node.spec.metrics else None
    mapped = build_table(mapping) if mapping else None
    return ScrapeTarget(
        endpoint.node, endpoint.engine, tuple(urls), host=name, tls=trust, mapped=mapped, guarded=frozenset(own)
    )


def _key(node: ModelNode, desired: DesiredState) -> str | None:
    """What lets the gateway in at the node's own port: a server may show its metrics to nobody else."""
    if node.spec.credentials is None:
        return None
    entry = node.spec.credentials.secret_ref
    return desired.secrets[node.metadata.namespace, entry.name][entry.key].strip().decode("ascii")


def _context(tls: ir.Tls, desired: DesiredState) -> ssl.SSLContext | None:
    if tls.ca is None:
        return None
    authorities = desired.secrets[tls.ca]["ca.crt"].decode("utf-8", "replace")
    try:
        return ssl.create_default_context(cadata=authorities)
    except ssl.SSLError:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
