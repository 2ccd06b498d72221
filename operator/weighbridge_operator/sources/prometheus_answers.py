"""Prometheus' answers, read: series joined to nodes, and each node's numbers with their instant. Pure.

A node's series are those that carry its labels (of a pod its name and namespace), or whose instance is its address; an
instance on the node's host with another port is its too (node_exporter, DCGM), unless that port is an engine's and the
host has several. A label that the exporter printed itself, which Prometheus has renamed to exported_..., goes before
that of the scraped target. Within one target all numbers of one scrape have one timestamp: what is older than its
target's newest is gone, and what two jobs scraped counts once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, TypeVar

from weighbridge_metrics.exposition import Page, Sample
from weighbridge_metrics.signals import Counters, Window, read_table
from weighbridge_metrics.ways import SHARES
from weighbridge_operator.sources.prometheus_queries import PART, TIME, Query

T = TypeVar("T")

INSTANTS = 8  # of a node's numbers that are remembered, to tell how often they come
EXPORTED = "exported_"


class AnswerError(Exception):
    """An answer that cannot be used; the message is for users."""


@dataclass(frozen=True, slots=True)
class Series:
    """Labels as the exporter printed them, where it did, and samples (Unix seconds, value), oldest first."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class OwnQuery:
    """A user's query for one signal, and the one for the Unix time of its numbers where it is no selector."""

    signal: str  # field of LoadSample
    text: str
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A node that is looked for. Without labels it is found by its instance ("ip:port") and by its hosts."""

    node: str  # ir.Endpoint.node
    engine: str
    labels: tuple[tuple[str, str], ...] = ()
    instances: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    own: tuple[OwnQuery, ...] = ()
    #: Whether the user asked for it; else nothing found is no fault.
    required: bool = True

    @property
    def pod(self) -> tuple[str, str] | None:
        """Namespace and name."""
        labels = dict(self.labels)
        return (labels["namespace"], labels["pod"]) if {"namespace", "pod"} <= labels.keys() else None


@dataclass(frozen=True, slots=True)
class Track:
    """What one query told of one node: its newest numbers, their instant (Unix seconds), and what continues them."""

    at: float
    values: Mapping[str, float]
    counters: Counters = field(default_factory=dict)
    instants: tuple[float, ...] = ()

    @property
    def interval(self) -> float:
        """Seconds between its numbers; 0 where that is not known yet."""
        return median(b - a for a, b in pairwise(self.instants)) if len(self.instants) > 1 else 0.0


def read_series(result: object, most: int) -> list[Series]:
    """The `result` of a query, of any type. Raises AnswerError."""
    if not isinstance(result, list):
        raise AnswerError("answered something else than a Prometheus does")
    if len(result) == 2 and not isinstance(result[0], dict):
        result = [{"metric": {}, "value": result}]  # a scalar
    if len(result) > most:
        raise AnswerError(f"answered {len(result):,} series, more than {most:,}")
    try:
        return [_read_one(entry) for entry in result]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AnswerError("answered something else than a Prometheus does") from None


def _read_one(entry: Mapping[str, Any]) -> Series:
    points = entry["values"] if "values" in entry else [entry["value"]]
    labels = {str(name): str(value) for name, value in entry["metric"].items()}
    printed = {name[len(EXPORTED) :]: value for name, value in labels.items() if name.startswith(EXPORTED) and value}
    return Series(labels | printed, tuple((float(at), float(value)) for at, value in points))


class Index:
    """The series of one answer, by what nodes are found by."""

    def __init__(self, series: Sequence[Series], wanted: Iterable[Wanted]) -> None:
        self._series = series
        self._keys = {tuple(name for name, _ in each.labels) for each in wanted if each.labels}
        self._by_labels: dict[tuple[str, ...], dict[tuple[str, ...], list[Series]]] = {}
        self._by_instance: dict[str, list[Series]] = defaultdict(list)
        self._by_host: dict[str, list[Series]] = defaultdict(list)
        for names in self._keys:
            found = self._by_labels[names] = defaultdict(list)
            for each in series:
                found[tuple(each.labels.get(name, "") for name in names)].append(each)
        for each in series:
            instance = each.labels.get("instance", "")
            self._by_instance[instance].append(each)
            self._by_host[instance.rpartition(":")[0].strip("[]") or instance].append(each)

    def find(self, wanted: Wanted, shared: frozenset[str]) -> list[Series]:
        """The node's series; by no host of `shared`."""
        if wanted.labels:
            names = tuple(name for name, _ in wanted.labels)
            return self._by_labels[names].get(tuple(value for _, value in wanted.labels), [])
        exact = [each for instance in sorted(wanted.instances) for each in self._by_instance.get(instance, ())]
        return exact or [each for host in sorted(wanted.hosts - shared) for each in self._by_host.get(host, ())]

    def find_own(self, wanted: Wanted) -> list[Series]:
        """What of a user's query is the node's: all but series that carry other values of its labels."""
        labels = dict(wanted.labels)
        return [
            each
            for each in self._series
            if all(each.labels.get(name, value) == value for name, value in labels.items())
        ]


def follow(query: Query, series: Sequence[Series], before: Track | None, window: float) -> Track | None:
    """The node's track after one more answer; unchanged where nothing is newer, None where there is nothing at all."""
    found = _of_one_scrape(series, window) if query.form == "raw" else _with_time(series)
    if found is None:
        return before
    at, families = found
    if before is not None and at <= before.at:
        return before
    counters: dict[str, Window] = dict(before.counters) if before else {}
    read = read_table(query.table, [Page(families)], counters, at)
    values = {signal: value for signal, value in read.items() if value is not None}
    return Track(at, values, counters, (*(before.instants if before else ()), at)[-INSTANTS:])


def follow_own(
    signal: str, series: Sequence[Series], times: Sequence[Series] | None, before: Track | None, window: float
) -> Track | None:
    """The same for a user's query; `times` is the answer of the query for its time."""
    if times is None:
        live = _alive([(each, each.points[-1][0]) for each in series if each.points], window)
        at = min((newest for _, newest in live), default=None)
        values = [each.points[-1][1] for each, _ in live]
    else:
        at = min((each.points[-1][1] for each in times if each.points), default=None)
        values = [each.points[-1][1] for each in series if each.points]
    if at is None or not math.isfinite(at) or not values:
        return before
    if before is not None and at <= before.at:
        return before
    # Requests and tokens add up over series; of shares and seconds the greatest counts.
    value = max(values) if signal in SHARES or signal == "latency" else sum(values)
    usable = all(0 <= each < math.inf for each in values) and not (signal in SHARES and value > 1)
    instants = (*(before.instants if before else ()), at)[-INSTANTS:]
    return Track(at, {signal: value} if usable else {}, instants=instants)


def pace(series: Iterable[Series]) -> float:
    """The longest time between two samples of a series, 0 where none has two."""
    return max((b[0] - a[0] for each in series for a, b in pairwise(each.points)), default=0.0)


_Families = Mapping[str, tuple[Sample, ...]]


def _of_one_scrape(series: Sequence[Series], window: float) -> tuple[float, _Families] | None:
    """The newest scrape of every target that lives, and the oldest of their instants."""
    newest: dict[str, dict[str, float]] = defaultdict(dict)  # instance -> job -> when
    for each in series:
        if each.points:
            jobs, job = newest[each.labels.get("instance", "")], each.labels.get("job", "")
            jobs[job] = max(jobs.get(job, 0.0), each.points[-1][0])
    chosen = {instance: max(jobs, key=lambda job: (jobs[job], job)) for instance, jobs in newest.items()}
    live = dict(_alive([(instance, newest[instance][job]) for instance, job in chosen.items()], window))
    families: dict[str, list[Sample]] = defaultdict(list)
    for each in series:
        instance = each.labels.get("instance", "")
        mine = instance in live and each.labels.get("job", "") == chosen[instance]
        if mine and each.points and each.points[-1][0] == live[instance]:
            families[each.labels.get("__name__", "")].append(Sample(each.labels, each.points[-1][1]))
    if not families:
        return None
    return min(live.values()), {name: tuple(samples) for name, samples in families.items()}


def _alive(dated: Sequence[tuple[T, float]], window: float) -> list[tuple[T, float]]:
    """Without those that the others have left behind: a pod that was replaced under its name counts no longer."""
    newest = max((at for _, at in dated), default=0.0)
    return [(each, at) for each, at in dated if at > newest - window / 2]


def _with_time(series: Sequence[Series]) -> tuple[float, _Families] | None:
    """Sums with the oldest timestamp of what was added up."""
    times = [each.points[-1][1] for each in series if each.labels.get(PART) == TIME and each.points]
    families: dict[str, list[Sample]] = defaultdict(list)
    for each in series:
        part = each.labels.get(PART, "")
        if part != TIME and each.points:
            families[part].append(Sample(each.labels, each.points[-1][1]))
    if not times or not families or not math.isfinite(min(times)):
        return None
    return min(times), {name: tuple(samples) for name, samples in families.items()}
