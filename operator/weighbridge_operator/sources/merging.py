"""A node's numbers from its own page and from Prometheus, made one sample: of each the fresher. Pure.

What an engine says of itself stays together, because requests running and waiting are compared with ours of the same
instant; its source names the whole sample, so that no window of counters spans two sources. Every other signal is taken
for itself, and carries its own instant and end where they are not the sample's. Prometheus wins where it is fresher by
a margin, for a source that changes with each round would begin its windows anew each round. A user's own query goes
before both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from weighbridge_metrics.sample import LoadSample, Origin
from weighbridge_operator.core.explain import number
from weighbridge_operator.core.load import SAME_INSTANT
from weighbridge_operator.report import PrometheusReport

ENGINE: Final = ("waiting", "running", "kv", "latency", "generated_tokens", "prompt_tokens", "steps", "room_tokens")
MACHINE: Final = ("cpu", "memory", "gpu", "gpu_memory")
MARGIN: Final = 5.0  # seconds by which Prometheus must be fresher than what was just read
MAXIMUM_AGE: Final = 20.0  # seconds that a number of Prometheus is used, or so many of its intervals:
INTERVALS: Final = 2.5


@dataclass(frozen=True, slots=True)
class Dated:
    """One number from Prometheus; `until` is when it is too old."""

    value: float
    at: float  # seconds, monotonic
    until: float
    own: bool = False  # by a user's own query


@dataclass(frozen=True, slots=True)
class Found:
    """What Prometheus says of one node, and what is amiss with it. `source` names the server that was asked."""

    source: str
    numbers: Mapping[str, Dated] = field(default_factory=dict)  # by field of LoadSample
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ServerState:
    """One replica, for people."""

    name: str
    queries: int
    failures: int
    skew: float | None  # seconds that its clock is ahead of ours
    newest: float | None  # seconds, monotonic: the instant of its newest number
    error: str | None  # why it is not used now


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What Prometheus said last, by node, and how its replicas are."""

    found: Mapping[str, Found] = field(default_factory=dict)
    servers: tuple[ServerState, ...] = ()


def report_servers(knowledge: Knowledge | None, now: float) -> tuple[PrometheusReport, ...]:
    """The replicas as they are at `now`, for people."""
    return tuple(
        PrometheusReport(
            name=server.name,
            queries=server.queries,
            failures=server.failures,
            age=None if server.newest is None else max(0.0, now - server.newest),
            skew=server.skew,
            error=server.error,
        )
        for server in (knowledge.servers if knowledge else ())
    )


def merge(scraped: LoadSample | None, found: Found | None, held: float | None, node: str, now: float) -> LoadSample:
    """One sample of the node at `now`. `held`: when its own page last told of the engine."""
    if found is None:
        return scraped or LoadSample(node=node, at=now, error="nothing to ask")
    usable = {signal: dated for signal, dated in found.numbers.items() if now <= dated.until}
    own = {signal: dated for signal, dated in usable.items() if dated.own}
    told = {signal: dated for signal, dated in usable.items() if not dated.own}
    values: dict[str, Any] = {}
    dates: dict[str, Origin] = {}
    engine = _choose_engine(scraped, told, held)
    if scraped is not None:
        kept = {s: getattr(scraped, s) for s in (*ENGINE, *MACHINE) if getattr(scraped, s) is not None}
        kept = {s: value for s, value in kept.items() if s in MACHINE or not engine}
        values |= kept
        dates |= {s: Origin(scraped.source, scraped.at, scraped.at + MAXIMUM_AGE) for s in kept}
    machine = {s: d for s, d in told.items() if s in MACHINE and (s not in dates or d.at > dates[s].at + MARGIN)}
    for signal, dated in {**engine, **machine, **own}.items():
        values[signal] = dated.value
        dates[signal] = Origin(found.source, dated.at, dated.until)
    return _assemble(node, values, dates, scraped, found, now)


def _choose_engine(scraped: LoadSample | None, told: Mapping[str, Dated], held: float | None) -> Mapping[str, Dated]:
    """What Prometheus says of the engine if that is to be used, else nothing."""
    engine = {signal: dated for signal, dated in told.items() if signal in ENGINE}
    if not engine or scraped is None:
        return engine
    newest = max(dated.at for dated in engine.values())
    if any(getattr(scraped, signal) is not None for signal in ENGINE):
        return engine if newest > scraped.at + MARGIN else {}
    return engine if held is None or newest > held else {}


def _assemble(
    node: str,
    values: Mapping[str, Any],
    dates: Mapping[str, Origin],
    scraped: LoadSample | None,
    found: Found,
    now: float,
) -> LoadSample:
    errors = [text for text in (scraped.error if scraped else None, found.error) if text]
    if not values:
        at = scraped.at if scraped else now
        error = "; ".join(errors) or _tell_age(found, now)
        return LoadSample(node=node, at=at, source=found.source, error=error)
    counted = [dates[signal] for signal in ("running", "waiting") if signal in dates]
    engine = [dates[signal] for signal in ENGINE if signal in dates]
    # Requests inside are of one instant with ours only as of the older part of them.
    first = min(counted, key=lambda d: d.at) if counted else max(engine or list(dates.values()), key=lambda d: d.at)
    origins = {
        signal: date
        for signal, date in sorted(dates.items())
        if date.source != first.source or abs(date.at - first.at) > SAME_INSTANT
    }
    sample = LoadSample(node=node, at=first.at, source=first.source, error="; ".join(errors) or None, origins=origins)
    return replace(sample, lasts=first.until - first.at, **values)


def _tell_age(found: Found, now: float) -> str:
    if not found.numbers:
        return "no usable number"
    return tell_age(now - max(dated.at for dated in found.numbers.values()))


def tell_age(age: float) -> str:
    """Why none of the numbers that Prometheus has are used; `age` of the newest in seconds."""
    return f"its newest numbers in Prometheus are {number(age)} s old"
