"""Exposition text (Prometheus text format 0.0.4, OpenMetrics 1.0), of which only the wanted families are read.

A node prints up to megabytes of which a dozen lines matter, so one regular expression finds the lines of the wanted
names and only those are taken apart. On a page of 2,043 lines (195 KB, 11 wanted names, 17 samples of them) that takes
0.36 ms of CPU; `prometheus_client.parser`, the well-kept library, takes 32 ms (90 times as much, for it builds every
sample), and 0.67 ms when only the wanted lines are handed to it. For 1,000 nodes every 2 s: 0.2 of a core against 16.
A property test holds both to the same answers. Whatever does not parse is skipped and counted; nothing raises.

Formats: prometheus.io/docs/instrumenting/exposition_formats and the OpenMetrics 1.0 specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

#: A longer line is nobody's honest sample: vLLM's longest (cache_config_info) has some 1,500 characters.
LINE_MAXIMUM = 16_384
#: Series of one family; a machine of 1,024 CPUs prints 8,192 of node_cpu_seconds_total.
SERIES_MAXIMUM = 16_384
#: What the wanted lines of a page may come to, in bytes, and what a line counts beside its own: twice what a machine of
#: 1,024 CPUs prints. To read as much takes 0.2 s of CPU; 4 MiB of nothing but wanted lines took ten times that.
TOTAL_MAXIMUM, LINE_COST = 2 * 2**20, 64

_LABEL = re.compile(
    r'[ \t]*(?:([A-Za-z_][\w.:]*)|"([^"\\\n]+)")[ \t]*=[ \t]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t]*(,|(?=\}))'
)
_CLOSE = re.compile(r"[ \t]*\}")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: its labels, its value (NaN and infinities as printed) and its time in Unix seconds where it has one."""

    labels: Mapping[str, str]
    value: float
    timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The wanted families that a text had, each with a sample or more, and how many of their lines were unreadable."""

    families: Mapping[str, tuple[Sample, ...]]
    broken: int = 0


def read(text: str | bytes, wanted: frozenset[str], total: int | None = None) -> Page:
    """Reads the samples whose full name (`..._total`, `..._sum`) is wanted, in the text's order.

    `total` bounds what the wanted lines come to, in bytes with `LINE_COST` for each; beyond it nothing of it counts.
    """
    body = "\n" + (text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    second = 1.0 if body[-64:].rstrip().endswith("\n# EOF") else 1000.0
    families: dict[str, list[Sample]] = {}
    broken = used = 0
    for match in _find_lines(wanted).finditer(body):
        name, line = match.groups()
        used += len(line) + LINE_COST
        if total is not None and used > total:
            return Page({}, broken + 1)
        samples = families.setdefault(name, [])
        full = len(samples) >= SERIES_MAXIMUM or len(line) > LINE_MAXIMUM
        sample = None if full else _read_sample(line, second)
        if sample is None:
            broken += 1
        else:
            samples.append(sample)
    return Page({name: tuple(families[name]) for name in sorted(families) if families[name]}, broken)


@lru_cache(maxsize=64)
def _find_lines(wanted: frozenset[str]) -> re.Pattern[str]:
    """Matches the line of any wanted name, the name apart from the rest."""
    names = _share_prefixes(tuple(sorted(wanted))) if wanted else "(?!)"
    return re.compile(rf"\n[ \t]*({names})(?=[ \t{{])([^\n]*)")


def _share_prefixes(names: tuple[str, ...]) -> str:
    """Alternatives for sorted, distinct names, with what they share written once: a third of a flat list's time."""
    prefix = _shared(names[0], names[-1])
    rest = [name[len(prefix) :] for name in names]
    branches = [_share_prefixes(tuple(group)) for head, group in groupby(rest, key=lambda name: name[:1]) if head]
    if not branches:
        return re.escape(prefix)
    optional = "?" if "" in rest else ""
    return f"{re.escape(prefix)}(?:{'|'.join(branches)}){optional}"


def _shared(first: str, last: str) -> str:
    """The common beginning of sorted names, which is that of the first and the last."""
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def _read_sample(line: str, second: float) -> Sample | None:
    """What follows the name: `{labels} value [timestamp] [# exemplar]`; None if it is not that."""
    labels: dict[str, str] = {}
    rest = line.lstrip(" \t")
    if rest.startswith("{"):
        read_labels = _read_labels(rest)
        if read_labels is None:
            return None
        labels, end = read_labels
        rest = rest[end:]
    numbers = rest.partition("#")[0].split()
    if not 1 <= len(numbers) <= 2:
        return None
    try:
        value = _read_number(numbers[0])
        timestamp = _read_number(numbers[1]) / second if len(numbers) == 2 else None
    except ValueError:
        return None
    return Sample(labels, value, timestamp)


def _read_labels(text: str) -> tuple[dict[str, str], int] | None:
    """The labels of a text that starts with a brace, and where they end; None if malformed or if a name repeats."""
    labels: dict[str, str] = {}
    at = 1
    while (close := _CLOSE.match(text, at)) is None:
        label = _LABEL.match(text, at)
        if label is None:
            return None
        bare, quoted, value, _ = label.groups()
        name = bare or quoted
        if name in labels:
            return None
        labels[name] = _ESCAPE.sub(_unescape, value) if "\\" in value else value
        at = label.end()
    return labels, close.end()


def _unescape(escape: re.Match[str]) -> str:
    """An escape that the formats do not know stands for itself."""
    return _ESCAPED.get(escape[1], escape[0])


def _read_number(text: str) -> float:
    """A float as the formats write it; Python alone would also take digits grouped with underscores."""
    if "_" in text:
        raise ValueError(text)
    return float(text)
