"""What Envoys count of requests, as Prometheus' text with names of ours.

The same renaming stands in the chart for whoever scrapes the Envoys' pods themselves (files/relabel.yaml): a family has
one name, one unit and one set of labels however it is read. Times are in milliseconds, as all of Envoy's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from weighbridge_operator.xds.names import LISTENER
from weighbridge_operator.xds.statistics import LABELS, ROUTE

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """One family: how Envoy calls it, how we do, and what it says."""

    theirs: str
    name: str
    kind: Kind
    text: str


FAMILIES: Final = (
    Family("envoy_weighbridge_requests_total", "weighbridge_requests_total", "counter", "Requests answered."),
    Family(
        "envoy_cluster_upstream_rq_time",
        "weighbridge_request_time",
        "histogram",
        "Milliseconds from when a request was read to its answer's last byte.",
    ),
    Family(
        "envoy_weighbridge_first_byte_time",
        "weighbridge_first_byte_time",
        "histogram",
        "Milliseconds from a request's first byte to the first of the answer's body.",
    ),
    Family("envoy_http_downstream_rq_active", "weighbridge_requests_active", "gauge", "Requests under way."),
    Family("envoy_cluster_upstream_rq_retry", "weighbridge_retries_total", "counter", "Further tries of requests."),
    Family(
        "envoy_cluster_upstream_rq_retry_overflow",
        "weighbridge_retries_refused_total",
        "counter",
        "Tries that the retry budget did not allow.",
    ),
    Family(
        "envoy_cluster_outlier_detection_ejections_enforced_total",
        "weighbridge_ejections_total",
        "counter",
        "Times that a node was taken out because it failed.",
    ),
    Family(
        "envoy_cluster_outlier_detection_ejections_active",
        "weighbridge_ejected_nodes",
        "gauge",
        "Nodes that are out because they failed.",
    ),
    Family(
        "envoy_filesystem_write_failed",
        "weighbridge_request_log_failures_total",
        "counter",
        "Times that lines of the request log could not be written.",
    ),
    Family(
        "envoy_filesystem_write_total_buffered",
        "weighbridge_request_log_waiting_bytes",
        "gauge",
        "What waits to be written to the request log.",
    ),
    Family(
        "envoy_server_stats_overflow_counter",
        "weighbridge_series_refused_total",
        "counter",
        "Times that a request was not counted because there are too many series.",
    ),
)
#: Clusters of Envoy's own.
OURS: Final = frozenset({"xds", "admin"})
_PARTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "counter": ("",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
#: What a line begins with: the place of its family, and our name.
_NAMES: Final = {
    family.theirs + part: (number, family.name + part)
    for number, family in enumerate(FAMILIES)
    for part in _PARTS[family.kind]
}
_WANTED: Final = (
    r"^(weighbridge\.|cluster\.[^.]+\.(upstream_rq_time|upstream_rq_retry|upstream_rq_retry_overflow"
    r"|outlier_detection\.ejections_enforced_total|outlier_detection\.ejections_active)$"
    rf"|http\.{LISTENER}\.downstream_rq_active$|filesystem\.write_(failed|total_buffered)$|server\.stats_overflow\.counter$)"
)
PATH: Final = f"/stats/prometheus?filter={quote(_WANTED)}"
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\\n]|\\.)*)"(?:,|$)')
_BOUND: Final = re.compile(r',?le="[^"]*"$')


def relay(pages: Mapping[str, str]) -> str:
    """The families of these pages, by the Envoy that each is of. A line costs 2 us: there may be 100,000."""
    lines: list[list[str]] = [[] for _ in FAMILIES]
    for envoy, page in sorted(pages.items()):
        known: dict[str, str | None] = {}
        for line in page.splitlines():
            name, _, rest = line.partition("{")
            if name not in _NAMES:
                continue
            number, ours = _NAMES[name]
            labels, _, value = rest.rpartition("} ")
            bound = _BOUND.search(labels) if ours.endswith("_bucket") else None
            others = labels[: bound.start()] if bound else labels
            if others not in known:
                known[others] = _rename(others)
            if (told := known[others]) is not None:
                last = f",{bound[0].lstrip(',')}" if bound else ""
                lines[number].append(f'{ours}{{envoy="{envoy}"{told}{last}}} {value}\n')
    return "".join(_head(family) + "".join(found) for family, found in zip(FAMILIES, lines, strict=True))


def _head(family: Family) -> str:
    return f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n"


def _rename(labels: str) -> str | None:
    """The labels as ours are called, each after a comma; None for what is Envoy's own affair, or broken."""
    told = []
    if _LABEL.sub("", labels):
        return None
    for name, value in _LABEL.findall(labels):
        match name:
            case "envoy_cluster_name" if value in OURS:
                return None
            case "envoy_cluster_name":
                told.append(("cluster", value))
            case "envoy_http_conn_manager_prefix":
                continue
            case _ if name == ROUTE:
                told += _split(value)
            case _:
                told.append((name, value))
    return "".join(f',{name}="{value}"' for name, value in told if value)


def _split(route: str) -> Iterator[tuple[str, str]]:
    return zip(LABELS, route.split(" ", len(LABELS) - 1), strict=False)
