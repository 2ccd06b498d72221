"""The ways in which exporters print a number about load, and the table of an exporter: pure data.

signals.py reads by it. Where series are copies of one number (tensor-parallel ranks, the processes of one server) they
count once; where they share the work (data-parallel ranks, models) they are added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from weighbridge_metrics.exposition import Sample

#: Fields of LoadSample that are 0 to 1.
SHARES = frozenset({"kv", "cpu", "memory", "gpu", "gpu_memory"})


@dataclass(frozen=True, slots=True)
class Printed:
    """A number as printed: of its series that carry the labels `where` the sum, the greatest, or the fullest model's
    mean; divided. `blank` and above means "no value".
    """

    family: str
    fold: Literal["sum", "fullest", "greatest"] = "sum"
    divisor: float = 1.0
    blank: float = math.inf
    where: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Labelled:
    """The product of numbers that are label values, summed over the series."""

    family: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Two numbers of one thing multiplied, and summed over the things: series alike but for the labels `where`."""

    one: Printed
    other: Printed


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a whole: whole - part."""

    whole: Printed
    part: Printed


@dataclass(frozen=True, slots=True)
class Portion:
    """The share part / whole."""

    part: Printed
    whole: Printed


@dataclass(frozen=True, slots=True)
class Used:
    """The share used / (used + free)."""

    used: Printed
    free: Printed


@dataclass(frozen=True, slots=True)
class Taken:
    """The share 1 - left / whole."""

    left: Printed
    whole: Printed


@dataclass(frozen=True, slots=True)
class MeanSince:
    """The mean of a histogram's observations since the last reading; none if there were none."""

    histogram: str


@dataclass(frozen=True, slots=True)
class RiseSince:
    """What a counter rose by since the last reading, for each that `per` rose by; without it, a second."""

    counter: Printed
    per: Printed | None = None


@dataclass(frozen=True, slots=True)
class BusySince:
    """The share of processor time since the last reading that was not idle."""

    family: str


@dataclass(frozen=True, slots=True)
class Within:
    """The share used / limit, over the containers that have a limit."""

    used: str
    limit: str


@dataclass(frozen=True, slots=True)
class SpentSince:
    """Processor time since the last reading as a share of the limit (cores), over the containers that have one."""

    used: str
    limit: str


Now = Printed | Labelled | Product | Rest | Portion | Used | Taken | Within
Since = MeanSince | RiseSince | BusySince | SpentSince
Way = Now | Since


@dataclass(frozen=True, slots=True)
class Table:
    """One exporter: its signals (field of LoadSample, ways to read it), and how it repeats itself in labels."""

    signals: tuple[tuple[str, tuple[Way, ...]], ...]
    #: Labels that tell only copies of one number apart.
    copies: frozenset[str] = frozenset()
    #: A label whose non-empty values mark parts of the series in which it is empty.
    breakdown: str | None = None
    #: Whether its steps, or where it prints none its tokens, are counted with each step of the engine: then it has
    #: stopped where they stand still for a second. Others count where a request ends, or now and then.
    steady: bool = False


def narrow(table: Table, signal: str) -> Table:
    """The table's part for one signal."""
    return replace(table, signals=tuple(each for each in table.signals if each[0] == signal))


def families(tables: tuple[Table, ...]) -> frozenset[str]:
    """The full names of every sample that the tables read."""
    return frozenset(name for table in tables for _, ways in table.signals for way in ways for name in list_names(way))


def carries(sample: Sample, way: Printed) -> bool:
    """Whether a series is one that the way means."""
    return all(sample.labels.get(name) == value for name, value in way.where)


def list_parts(way: Way) -> tuple[Printed, ...]:
    """The numbers as printed that a way is made of."""
    match way:
        case Printed():
            return (way,)
        case Used(one, other) | Taken(one, other) | Product(one, other) | Rest(one, other) | Portion(one, other):
            return (one, other)
        case RiseSince(counter, per):
            return (counter, per) if per else (counter,)
        case Labelled() | Within() | SpentSince() | BusySince() | MeanSince():
            return ()
        case _:
            assert_never(way)


def list_names(way: Way) -> Iterator[str]:
    """The families that a way reads."""
    match way:
        case Labelled(family) | BusySince(family):
            yield family
        case Within(used, limit) | SpentSince(used, limit):
            yield from (used, limit)
        case MeanSince(histogram):
            yield from (f"{histogram}_sum", f"{histogram}_count")
        case _:
            yield from (part.family for part in list_parts(way))
