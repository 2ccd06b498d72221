"""A Report in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/).

What is not known has no sample, for 0 would be a claim. Series follow the operator's objects, never what clients send;
above MOST nodes and Envoys the rest is counted, not listed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from weighbridge_operator.report import EndpointReport, ObjectReport, Report
from weighbridge_operator.views.groups import NODE

MOST: Final = 2000  # nodes in pools, objects, pools and Envoys that are listed, of each

Labels = tuple[tuple[str, str], ...]
Sample = tuple[Labels, float | None]
Kind = Literal["gauge", "counter"]
Read = Callable[[EndpointReport], float | None]

_NODE_FAMILIES: Final[tuple[tuple[str, Kind, str, Read], ...]] = (
    ("weighbridge_node_score", "gauge", "Load of the node, 0 (idle) to 100 (full).", lambda e: e.score),
    ("weighbridge_node_weight", "gauge", "Weight of the node in Envoy.", lambda e: e.weight),
    ("weighbridge_node_load_age_seconds", "gauge", "Age of the newest numbers of the node.", lambda e: e.age),
    (
        "weighbridge_node_healthy",
        "gauge",
        "0 where an Envoy ejected it or its health check fails.",
        lambda e: e.healthy,
    ),
    ("weighbridge_node_requests_total", "counter", "Requests answered, by all Envoys.", lambda e: e.requests),
    ("weighbridge_node_requests_active", "gauge", "Our requests on the node, all Envoys.", lambda e: e.inflight),
    ("weighbridge_node_queue_requests", "gauge", "Requests waiting in the engine.", lambda e: e.waiting),
    ("weighbridge_node_running_requests", "gauge", "Requests that the engine works on.", lambda e: e.running),
    ("weighbridge_node_kv_cache_ratio", "gauge", "Share of the KV cache in use, 0 to 1.", lambda e: e.kv),
)


def expose(report: Report | None, version: str) -> str:
    """The whole page; `version` is this program's. Before the first report only what is known then."""
    families = [_family("weighbridge_build_info", "gauge", "What runs.", [((("version", version),), 1)])]
    if report is not None:
        families += [
            *_nodes(report),
            *_pools(report),
            *_envoys(report),
            *_prometheus(report),
            *_objects(report),
            *_writer(report),
        ]
    return "".join(families)


def _nodes(report: Report) -> Iterator[str]:
    every = [(node, e) for node in report.objects if node.kind == NODE for e in node.endpoints]
    listed = [(_node_labels(node, e), e) for node, e in every[:MOST]]
    for name, kind, text, read in _NODE_FAMILIES:
        yield _family(name, kind, text, [(labels, read(e)) for labels, e in listed])
    text = "Nodes in pools that these families leave out, because there are too many."
    yield _family("weighbridge_nodes_omitted", "gauge", text, [((), max(0, len(every) - MOST))])


def _pools(report: Report) -> Iterator[str]:
    pools = [((("pool", pool.name),), pool) for pool in report.pools[:MOST]]
    yield _family(
        "weighbridge_pool_pushes_total",
        "counter",
        "Changes of the pool's weights since the start.",
        [(labels, pool.pushes) for labels, pool in pools],
    )
    text = "Mean score of the pool's nodes by their room, 0 to 100."
    yield _family("weighbridge_pool_load", "gauge", text, [(labels, pool.load) for labels, pool in pools])
    text = "Whether all weights of the pool are equal, so that Envoy compares its own counts alone."
    yield _family("weighbridge_pool_equal", "gauge", text, [(labels, int(pool.equal)) for labels, pool in pools])


def _envoys(report: Report) -> Iterator[str]:
    envoys = [((("envoy", envoy.id),), envoy) for envoy in report.envoys[:MOST]]
    text = "Envoys that are connected, to this replica or to another."
    yield _family("weighbridge_envoys", "gauge", text, [((), len(report.envoys))])
    text = "1 for each Envoy that is connected to this replica, with its version."
    yield _family(
        "weighbridge_envoy_connected",
        "gauge",
        text,
        [((*labels, ("build", envoy.build)), 1) for labels, envoy in envoys if envoy.connected is not None],
    )
    text = "Whether the Envoy runs all that it was offered."
    yield _family("weighbridge_envoy_current", "gauge", text, [(labels, int(e.current)) for labels, e in envoys])
    text = "Whether the Envoy's statistics can't be read, so that no requests in flight are known; status says why."
    yield _family("weighbridge_envoy_unread", "gauge", text, [(labels, int(bool(e.error))) for labels, e in envoys])
    text = "Whether the Envoy refuses what it was offered of this kind of resource; status has its words."
    samples: list[Sample] = [
        ((*labels, ("kind", kind.kind)), int(kind.rejected is not None)) for labels, e in envoys for kind in e.kinds
    ]
    yield _family("weighbridge_envoy_rejections", "gauge", text, samples)


def _prometheus(report: Report) -> Iterator[str]:
    servers = [((("server", server.name),), server) for server in report.prometheus]
    text = "Whether the Prometheus answers."
    yield _family("weighbridge_prometheus_up", "gauge", text, [(labels, int(s.error is None)) for labels, s in servers])
    text = "Queries sent to the Prometheus."
    yield _family(
        "weighbridge_prometheus_queries_total", "counter", text, [(labels, s.queries) for labels, s in servers]
    )
    text = "Queries that brought nothing usable."
    yield _family(
        "weighbridge_prometheus_failures_total", "counter", text, [(labels, s.failures) for labels, s in servers]
    )
    text = "Age of the newest number that the Prometheus gave."
    yield _family("weighbridge_prometheus_age_seconds", "gauge", text, [(labels, s.age) for labels, s in servers])
    text = "How far the clock of the Prometheus is ahead of this machine's."
    yield _family(
        "weighbridge_prometheus_clock_skew_seconds", "gauge", text, [(labels, s.skew) for labels, s in servers]
    )


def _objects(report: Report) -> Iterator[str]:
    samples: list[Sample] = [(_object_labels(found), _ready(found)) for found in report.objects[:MOST]]
    text = "Whether the object's condition Ready is True (1) or False (0); absent where it is Unknown."
    yield _family("weighbridge_object_ready", "gauge", text, samples)
    text = "What is wrong with the files and with the Secrets that flags name, in problems."
    yield _family("weighbridge_file_problems", "gauge", text, [((), len(report.problems))])
    text = "When the certificate expires, in seconds since 1970."
    expiries: list[Sample] = [((("certificate", c.name),), c.until) for c in report.remarks.certificates]
    yield _family("weighbridge_certificate_expiry_timestamp_seconds", "gauge", text, expiries)
    text = "Time since the control plane started."
    yield _family("weighbridge_uptime_seconds", "gauge", text, [((), report.uptime)])


def _writer(report: Report) -> Iterator[str]:
    if (writer := report.writer) is None:
        return
    text = "Whether this replica writes the objects' status."
    yield _family("weighbridge_status_leader", "gauge", text, [((), int(writer.leads))])
    text = "Statuses written since the start."
    yield _family("weighbridge_status_writes_total", "counter", text, [((), writer.written)])
    text = "Calls of the API server for the objects' status that failed since the start."
    yield _family("weighbridge_status_failures_total", "counter", text, [((), writer.failed)])
    text = "Statuses that wait to be written."
    yield _family("weighbridge_status_waiting", "gauge", text, [((), writer.waiting)])


def _ready(found: ObjectReport) -> int | None:
    status = next((c.status for c in found.conditions if c.type == "Ready"), None)
    return {"True": 1, "False": 0}.get(status or "")


def _node_labels(node: ObjectReport, endpoint: EndpointReport) -> Labels:
    of_service = (("endpoint", endpoint.name),) if endpoint.name else ()
    return (("namespace", node.namespace), ("node", node.name), *of_service, ("pool", endpoint.pool))


def _object_labels(found: ObjectReport) -> Labels:
    return (("kind", found.kind), ("namespace", found.namespace), ("name", found.name))


def _family(name: str, kind: Kind, text: str, samples: Iterable[Sample]) -> str:
    # One series twice would make Prometheus refuse the whole page.
    known = {labels: value for labels, value in samples if value is not None and math.isfinite(value)}
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in known.items()]
    return "".join([f"# HELP {name} {text}\n# TYPE {name} {kind}\n", *lines]) if lines else ""


def _number(value: float) -> str:
    return repr(int(value) if isinstance(value, bool) else value)


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}" if labels else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
