"""Where a node's load is read: its own pages, the gateway's Prometheus, and how a custom engine names its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from weighbridge_api.base import Shape, sort_mapping
from weighbridge_api.faults import fault
from weighbridge_api.values import Promql, SeriesLabel, SeriesName, SeriesValue, UrlPath, cel

Port = Annotated[int, Field(ge=1, le=65535)]


class Scrape(Shape):
    """One endpoint of the node's host that prints metrics in Prometheus' format."""

    port: Port
    """TCP port."""
    path: UrlPath = "/metrics"
    """Path of the metrics."""


def _check_scrape(scrape: tuple[Scrape, ...]) -> tuple[Scrape, ...]:
    for index, each in enumerate(scrape):
        if each in scrape[:index]:
            about = [(at, key) for at in (index, scrape.index(each)) for key in ("port", "path")]
            raise fault("names an endpoint twice", "remove one", cure=(index,), about=about)
    return scrape


LoadSignal = Literal[
    "cpu", "memory", "gpu", "gpuMemory", "kv", "queue", "running", "latency", "generatedTokens", "roomTokens"
]
_SIGNALS = get_args(LoadSignal)


class Prometheus(Shape):
    """How the node is found in the Prometheus that the gateway asks."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "!has(self.times) || (has(self.queries) && "
            + " && ".join(f"(!has(self.times.{signal}) || has(self.queries.{signal}))" for signal in _SIGNALS)
            + ")",
            "times names a signal without a query",
        )
    )

    match: Annotated[Mapping[SeriesLabel, SeriesValue], Field(max_length=8), AfterValidator(sort_mapping)] = Field(
        default_factory=dict
    )
    """Labels that its series carry, beside a Service endpoint's pod and namespace; default: its host as instance."""
    queries: Annotated[
        Mapping[
            LoadSignal, Annotated[Promql, Field(description="A selector, or an expression with its time in times.")]
        ],
        Field(max_length=10),
        AfterValidator(sort_mapping),
    ] = Field(default_factory=dict)
    """Queries of your own, in the place of the known ones; their series may carry no other value of a matched label."""
    times: Annotated[
        Mapping[LoadSignal, Annotated[Promql, Field(description="An expression, as min(timestamp(my_queue)).")]],
        Field(max_length=10),
        AfterValidator(sort_mapping),
    ] = Field(default_factory=dict)
    """For each query that is no selector: an expression for the Unix time of its numbers."""

    @model_validator(mode="after")
    def _check_times(self) -> Prometheus:
        alone = [signal for signal in self.times if signal not in self.queries]
        if alone:
            cure, about = ("times", alone[0]), [("queries", alone[0])]
            message = f"times has {alone[0]}, queries has not"
            raise fault(message, "add the query, or remove the time", cure=cure, about=about)
        return self


#: The values that a signal can have: counts are printed as they are, shares are 0 to 1, seconds what they say.
COUNTS: Final[tuple[LoadSignal, ...]] = ("queue", "running", "generatedTokens", "roomTokens")
SHARES: Final[tuple[LoadSignal, ...]] = ("cpu", "memory", "gpu", "gpuMemory", "kv")
Labels = Annotated[Mapping[SeriesLabel, SeriesValue], Field(max_length=8), AfterValidator(sort_mapping)]


class Whole(Shape):
    """The metric that another one is a part of."""

    metric: SeriesName
    """Its name on the page."""
    labels: Labels = Field(default_factory=dict)
    """Labels that its series must carry."""


class Mapped(Shape):
    """One signal's metric. Of several series counts are added up, of shares and seconds the greatest counts."""

    model_config = ConfigDict(
        json_schema_extra=cel("!has(self.divisor) || !has(self.total)", "give divisor or total, not both")
    )

    metric: SeriesName
    """Its name on the page, as my_queue_length; of a histogram with _sum."""
    labels: Labels = Field(default_factory=dict)
    """Labels that its series must carry."""
    divisor: Annotated[float, Field(gt=0, le=1e12)] | None = None
    """What its value is divided by: 100 for percent, 1000 for milliseconds; default: 1."""
    total: Whole | None = None
    """Of a share: the metric of the whole, by which the sum of its series is divided."""
    kind: Literal["gauge", "counter"] = "gauge"
    """A counter tells what it rose by since the reading before: for each that total rose by, or for each second."""

    @model_validator(mode="after")
    def _check_whole(self) -> Mapped:
        if self.divisor is not None and self.total is not None:
            raise fault("has both divisor and total", "remove one", cure=("divisor",))
        return self


def _check_mapping(mapping: Mapping[LoadSignal, Mapped]) -> Mapping[LoadSignal, Mapped]:
    for signal, mapped in sorted(mapping.items()):
        if signal in COUNTS and (mapped.total is not None or mapped.kind == "counter"):
            raise fault(
                f"{signal} takes neither total nor kind: counter",
                "give the metric that holds the number itself",
                cure=(signal,),
                instead={"metric": mapped.metric},
            )
        if signal == "latency" and (mapped.total is not None) != (mapped.kind == "counter"):
            raise fault(
                "latency takes kind: counter and total together, or neither",
                "give a histogram's _sum as metric, its _count as total and kind: counter",
                cure=(signal,),
                instead={"metric": mapped.metric},
            )
    return sort_mapping(mapping)


_MAPPING_RULES: Final[dict[str, Any]] = {
    "x-kubernetes-validations": [
        {
            "rule": " && ".join(
                f"(!has(self.{s}) || (!has(self.{s}.total) && self.{s}.kind == 'gauge'))" for s in COUNTS
            ),
            "message": f"{', '.join(COUNTS)} take neither total nor kind: counter",
        },
        {
            "rule": "!has(self.latency) || has(self.latency.total) == (self.latency.kind == 'counter')",
            "message": "latency takes kind: counter and total together, or neither",
        },
    ]
}


class Metrics(Shape):
    """Where the node's load is read."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "has(self.scrape) || has(self.prometheus) || has(self.mapping)", "give scrape, prometheus or mapping"
        )
    )

    scrape: (
        Annotated[
            tuple[Scrape, ...],
            Field(
                strict=False,
                min_length=1,
                max_length=8,
                json_schema_extra=cel(
                    "self.all(a, self.exists_one(b, a.port == b.port && a.path == b.path))",
                    "an endpoint is named twice",
                ),
            ),
            AfterValidator(_check_scrape),
        ]
        | None
    ) = None
    """The engine's own endpoint, and node_exporter and DCGM beside it; default: with mapping its /metrics."""
    prometheus: Prometheus | None = None
    """What the gateway's Prometheus knows of it; empty finds it by its pod or its host."""
    mapping: (
        Annotated[
            Mapping[LoadSignal, Mapped],
            Field(min_length=1, max_length=10, json_schema_extra=_MAPPING_RULES),
            AfterValidator(_check_mapping),
        ]
        | None
    ) = None
    """Of engine custom: the metric for each signal, as it stands on the pages that are scraped."""

    @model_validator(mode="after")
    def _check_source(self) -> Metrics:
        if not self.scrape and self.prometheus is None and self.mapping is None:
            about = [("scrape",), ("prometheus",), ("mapping",)]
            raise fault(
                "has neither scrape nor prometheus nor mapping", "give one of them, or remove metrics", about=about
            )
        return self
