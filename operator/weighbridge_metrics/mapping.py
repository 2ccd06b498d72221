"""A custom engine's metrics, as its node names them: the table to read them by, and what of it is not on the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from weighbridge_api.metrics import COUNTS, LoadSignal, Mapped
from weighbridge_metrics.exposition import Page
from weighbridge_metrics.ways import (
    SHARES,
    Portion,
    Printed,
    RiseSince,
    Since,
    Table,
    Way,
    carries,
    list_parts,
)

#: As users name signals, and the fields of LoadSample.
FIELDS: Final[Mapping[LoadSignal, str]] = {
    "cpu": "cpu",
    "memory": "memory",
    "gpu": "gpu",
    "gpuMemory": "gpu_memory",
    "kv": "kv",
    "queue": "waiting",
    "running": "running",
    "latency": "latency",
    "generatedTokens": "generated_tokens",
    "roomTokens": "room_tokens",
}
_NAMES: Final = {field: name for name, field in FIELDS.items()}
TOLD_MAXIMUM: Final = 3  # gaps that are told one by one


def build_table(mapping: Mapping[LoadSignal, Mapped]) -> Table:
    """The table of a mapping."""
    return Table(tuple((FIELDS[signal], (_way(signal, mapped),)) for signal, mapped in sorted(mapping.items())))


def _way(signal: LoadSignal, mapped: Mapped) -> Way:
    where = tuple(mapped.labels.items())
    divisor = mapped.divisor or 1.0
    whole = None
    if mapped.total is not None:
        whole = Printed(mapped.total.metric, where=tuple(mapped.total.labels.items()))
    summed = Printed(mapped.metric, divisor=divisor, where=where)
    if mapped.kind == "counter":
        return RiseSince(summed, whole)
    if whole is not None:
        return Portion(summed, whole)
    return summed if signal in COUNTS else Printed(mapped.metric, "greatest", divisor=divisor, where=where)


def tell_gaps(table: Table, pages: Sequence[Page], values: Mapping[str, float | None]) -> str | None:
    """What of the mapping's metrics could not be read, in words; `values` are what was read, by field."""
    gaps = [
        f"metrics.mapping.{_NAMES[field]}: {gap}"
        for field, (way,) in table.signals
        if values.get(field) is None and (gap := _find_gap(field, way, pages))
    ]
    if not gaps:
        return None
    more = f" (and {len(gaps) - TOLD_MAXIMUM} more)" if len(gaps) > TOLD_MAXIMUM else ""
    return "; ".join(gaps[:TOLD_MAXIMUM]) + more


def _find_gap(field: str, way: Way, pages: Sequence[Page]) -> str | None:
    parts = list_parts(way)
    for part in parts:
        samples = next((page.families[part.family] for page in pages if part.family in page.families), ())
        if not samples:
            return f"there is no {part.family} on its pages"
        if not any(carries(sample, part) for sample in samples):
            labels = ",".join(f'{name}="{value}"' for name, value in part.where)
            return f"no series of {part.family} has {{{labels}}}"
    # A counter says nothing at its first reading, and a mean nothing while nothing happens.
    if isinstance(way, Since):
        return None
    kind = "share of 0 to 1; give divisor or total" if field in SHARES else "number of 0 or more"
    return f"{parts[0].family} makes no {kind}"
