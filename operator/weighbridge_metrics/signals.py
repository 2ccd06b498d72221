"""From exposition text to one node's LoadSample, by the tables of engines.py.

One rule holds for all signals: a family that is missing, NaN, negative or infinite gives None and never 0, for a broken
server that looks idle attracts everything; and half a sum is no sum. KV use is the mean over ranks, which share the
requests among themselves, so that use times room is what is in use; and the maximum over models, which do not: room in
one is no room in the other. Counters become shares and means over the window since the last reading; a counter
that fell, or another number of series, is a restart and begins the window anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from weighbridge_metrics.engines import ENGINES, MACHINE
from weighbridge_metrics.exposition import TOTAL_MAXIMUM, Page, Sample, read
from weighbridge_metrics.mapping import tell_gaps
from weighbridge_metrics.sample import LoadSample
from weighbridge_metrics.ways import (
    SHARES,
    BusySince,
    Labelled,
    MeanSince,
    Now,
    Portion,
    Printed,
    Product,
    Rest,
    RiseSince,
    Since,
    SpentSince,
    Table,
    Taken,
    Used,
    Way,
    Within,
    carries,
    families,
)

#: Seconds; counters older than this no longer begin a window: what happened since says little about now. A Prometheus
#: that scrapes once a minute, its default, has to fit in.
WINDOW_MAXIMUM = 150.0
#: A share a little above 1 is rounding; one far above is not a share.
SHARE_MAXIMUM = 1.05
#: What the machine says, whatever runs on it.
OF_MACHINE = SHARES - {"kv"}


@dataclass(frozen=True, slots=True)
class Window:
    """Counters as last read, and when (seconds, monotonic)."""

    at: float
    values: tuple[float, ...]


#: By signal.
Counters = Mapping[str, Window]


def extract(
    node: str, engine: str, texts: Sequence[str | bytes], previous: Counters, at: float, mapped: Table | None = None
) -> tuple[LoadSample, Counters]:
    """Reads one node's pages, in the order of its endpoints, taken at `at` (seconds, monotonic).

    The first page that has a family speaks for it; `mapped` is the table of an engine whose user names its metrics.
    Answers the sample, and the counters to hand in next time; the sample has an error when none of what the engine is
    known to print could be read, or anything that a user named.
    """
    own = mapped or ENGINES.get(engine)
    tables = (own, *MACHINE) if own else MACHINE
    wanted = families(tables)
    pages = [read(text, wanted, TOTAL_MAXIMUM) for text in texts]
    values: dict[str, Any] = {}
    counters = dict(previous)
    for table in tables:
        found = read_table(table, pages, counters, at)
        values |= {signal: value for signal, value in found.items() if values.get(signal) is None}
    error = tell_gaps(mapped, pages, values) if mapped else _tell_silence(engine, own, values, counters, at)
    return LoadSample(node=node, at=at, error=error, **values), counters


def _tell_silence(
    engine: str, own: Table | None, values: Mapping[str, float | None], counters: Counters, at: float
) -> str | None:
    heard = own is None or any(
        values[signal] is not None or (signal in counters and counters[signal].at == at)
        for signal, _ in own.signals
        if signal not in OF_MACHINE
    )
    return None if heard else f"none of the metrics that {engine} prints could be read"


def read_table(table: Table, pages: Sequence[Page], counters: dict[str, Window], at: float) -> dict[str, float | None]:
    """Every signal of the table from pages of one instant (seconds); moves the windows in `counters`."""
    series = _Series(pages, table)
    return {signal: _read_signal(signal, ways, series, counters, at) for signal, ways in table.signals}


@dataclass(frozen=True, slots=True)
class _Series:
    """The pages as one table reads them: copies counted once, breakdowns left out."""

    pages: Sequence[Page]
    table: Table

    def find(self, family: str) -> list[Sample]:
        samples = next((page.families[family] for page in self.pages if family in page.families), ())
        if self.table.breakdown:
            samples = tuple(sample for sample in samples if not sample.labels.get(self.table.breakdown))
        if not self.table.copies:
            return list(samples)
        originals: dict[frozenset[tuple[str, str]], Sample] = {}
        for sample in samples:
            key = frozenset(pair for pair in sample.labels.items() if pair[0] not in self.table.copies)
            known = originals.get(key)
            # A NaN among copies must not hide behind a number: no comparison with it is true.
            if known is None or not sample.value <= known.value:
                originals[key] = sample
        return list(originals.values())


def _read_signal(
    signal: str, ways: tuple[Way, ...], series: _Series, counters: dict[str, Window], at: float
) -> float | None:
    """The signal by the first way that gives a number; moves the signal's window in `counters`."""
    for way in ways:
        value = _read_window(signal, way, series, counters, at) if isinstance(way, Since) else _read_now(way, series)
        if value is not None and signal in SHARES:
            value = min(value, 1.0) if value <= SHARE_MAXIMUM else None
        if value is not None and value < math.inf:
            return value
    return None


def _read_now(way: Now, series: _Series) -> float | None:
    match way:
        case Printed():
            return _read_printed(way, series)
        case Labelled(family, labels):
            return _add([_multiply(sample, labels) for sample in series.find(family)])
        case Product(one, other):
            return _read_product(one, other, series)
        case Within(name, limit):
            held, most = _pair(name, limit, series)
            return None if held is None or not most else held / most
        case Rest(one, other) | Portion(one, other) | Used(one, other) | Taken(one, other):
            first, second = _read_printed(one, series), _read_printed(other, series)
            return None if first is None or second is None else _combine(way, first, second)
        case _:
            assert_never(way)


def _combine(way: Rest | Portion | Used | Taken, first: float, second: float) -> float | None:
    """What two numbers say together; None where the second is no whole of the first."""
    match way:
        case Rest():
            return max(0.0, first - second)
        case Portion():
            return first / second if second > 0 else None
        case Used():
            return first / (first + second) if first + second > 0 else None
        case Taken():
            return 1 - first / second if 0 < second >= first else None
        case _:
            assert_never(way)


def _read_product(one: Printed, other: Printed, series: _Series) -> float | None:
    factors = {_thing(sample, other): sample.value for sample in _select(other, series)}
    return _add([sample.value * factors.get(_thing(sample, one), math.nan) for sample in _select(one, series)])


def _thing(sample: Sample, way: Printed) -> frozenset[tuple[str, str]]:
    names = {name for name, _ in way.where} | {"__name__"}  # Prometheus carries a family's name as a label
    return frozenset(pair for pair in sample.labels.items() if pair[0] not in names)


def _pair(used: str, limit: str, series: _Series) -> tuple[float | None, float | None]:
    """What is used and what may be, summed over the containers that say both."""
    limits = {sample.labels.get("container", ""): sample.value for sample in series.find(limit) if sample.value > 0}
    using = [(sample.labels.get("container", ""), sample.value) for sample in series.find(used)]
    known = [(value, limits[container]) for container, value in using if container in limits]
    return _add([value for value, _ in known]), _add([most for _, most in known])


def _select(way: Printed, series: _Series) -> list[Sample]:
    """The series that it means."""
    return [sample for sample in series.find(way.family) if not sample.value >= way.blank and carries(sample, way)]


def _read_printed(way: Printed, series: _Series) -> float | None:
    samples = _select(way, series)
    total = _add([sample.value for sample in samples])
    match way.fold:
        case "sum":
            pass
        case "greatest":
            total = None if total is None else max(sample.value for sample in samples)
        case "fullest":
            models: dict[str, list[float]] = {}
            for sample in samples:
                model = sample.labels.get("model_name") or sample.labels.get("model", "")
                models.setdefault(model, []).append(sample.value)
            total = None if total is None else max(math.fsum(each) / len(each) for each in models.values())
        case _:
            assert_never(way.fold)
    return None if total is None else total / way.divisor


def _multiply(sample: Sample, labels: tuple[str, ...]) -> float | None:
    """The product of label values; None where one is missing or no number, as the text None."""
    try:
        return math.prod(float(sample.labels[label]) for label in labels)
    except (KeyError, ValueError):
        return None


def _add(values: Sequence[float | None]) -> float | None:
    """The sum; None of nothing, and where one of them is unknown or impossible."""
    total = 0.0
    for value in values:
        if value is None or not 0 <= value < math.inf:
            return None
        total += value
    return total if values else None


def _read_window(signal: str, way: Since, series: _Series, counters: dict[str, Window], at: float) -> float | None:
    """What was counted since the last reading; None at the first and after a restart, which begin a window anew."""
    now = _count(way, series)
    if now is None:
        return None
    before = counters.get(signal)
    counters[signal] = Window(at, now)
    if before is None or not 0 < at - before.at <= WINDOW_MAXIMUM or before.values[-1] != now[-1]:
        return None
    part = now[0] - before.values[0]
    by_time = isinstance(way, SpentSince) or (isinstance(way, RiseSince) and way.per is None)
    whole = now[1] * (at - before.at) if by_time else now[1] - before.values[1]
    return part / whole if part >= 0 and whole > 0 else None


def _count(way: Since, series: _Series) -> tuple[float, float, float] | None:
    """The counters of the part and of the whole (of what is for each second: itself), and how many series they are."""
    match way:
        case MeanSince(histogram):
            counted = series.find(f"{histogram}_count")
            part = _add([sample.value for sample in series.find(f"{histogram}_sum")])
            whole = _add([sample.value for sample in counted])
        case BusySince(family):
            counted = series.find(family)
            # Stolen time counts as busy: the node cannot use it. Waiting for a disk does not.
            part = _add([sample.value for sample in counted if sample.labels.get("mode") not in {"idle", "iowait"}])
            whole = _add([sample.value for sample in counted])
        case SpentSince(used, limit):
            counted = series.find(used)
            part, whole = _pair(used, limit, series)
        case RiseSince(counter, per):
            counted = _select(counter, series)
            part = _read_printed(counter, series)
            whole = 1.0 if per is None else _read_printed(per, series)
        case _:
            assert_never(way)
    return None if part is None or whole is None else (part, whole, float(len(counted)))
