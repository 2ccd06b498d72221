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
        "envoy_weighbridge_request_time",
        "weighbridge_request_time",
        "histogram",
        "Milliseconds from a request's first byte to its answer's last.",
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
_BY_NAME: Final = {family.theirs: family for family in FAMILIES}
_WANTED: Final = (
    r"^(weighbridge\.|cluster\..+\.(upstream_rq_retry|upstream_rq_retry_overflow"
    r"|outlier_detection\.ejections_enforced_total|outlier_detection\.ejections_active)$"
    rf"|http\.{LISTENER}\.downstream_rq_active$|filesystem\.write_(failed|total_buffered)$|server\.stats_overflow\.counter$)"
)
PATH: Final = f"/stats/prometheus?filter={quote(_WANTED)}"
_LINE: Final = re.compile(
    r'^(envoy_\w+?)(_bucket|_sum|_count)?\{((?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*)\} (\S+)$', re.MULTILINE
)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def relay(pages: Mapping[str, str]) -> str:
    """The families of these pages, by the Envoy that each is of."""
    lines: dict[str, list[str]] = {family.name: [] for family in FAMILIES}
    for envoy, page in sorted(pages.items()):
        for theirs, part, labels, value in _LINE.findall(page):
            family = _BY_NAME.get(theirs) or _BY_NAME.get(theirs + part)
            if family is None or (told := _rename(labels)) is None:
                continue
            suffix = part if family.theirs == theirs else ""
            lines[family.name].append(f'{family.name}{suffix}{{envoy="{envoy}"{told}}} {value}\n')
    return "".join(_head(family) + "".join(lines[family.name]) for family in FAMILIES)


def _head(family: Family) -> str:
    return f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n"


def _rename(labels: str) -> str | None:
    """The labels as ours are called, each after a comma; None for what is Envoy's own affair."""
    told = []
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
