"""What is read of the Envoy beside us and of nodes: bytes in, facts out.

Everything here was written by others, so that whatever is not as expected is left out, and nothing raises. Absent is
not zero: an endpoint with half of its counts is unknown, and so is a signal that a page lacks.

In Envoy's statistics an endpoint's address has "_" in the place of ":", of IPv6 as well ("[fe80__1_2]_9001", measured
on 1.40), and so has a cluster's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from weighbridge_api.metrics import LoadSignal, Mapped
from weighbridge_api.wire import OTHERS, POOL
from weighbridge_dataplane.facts import Counts, Member, Sample
from weighbridge_dataplane.rates import MOST
from weighbridge_metrics.engines import CACHED, ENGINES, PROGRESS
from weighbridge_metrics.exposition import read
from weighbridge_metrics.mapping import FIELDS, build_table
from weighbridge_metrics.signals import Window, read_table
from weighbridge_metrics.ways import Table, families

MEMBERS_MAXIMUM: Final = 10_000  # nodes of a cluster
PAGES_MAXIMUM: Final = 8  # URLs of a node
#: What the lines of a page that are read may come to, in bytes: a few hundred series, and 12 ms, which hold requests.
TOTAL_MAXIMUM: Final = 128 * 1024
NAMES_MAXIMUM: Final = 8_000  # characters of clusters' names in a filter; beyond, all clusters are asked for
_WANTED: Final = ("rq_active", "rq_pending_active", "rq_error", "rq_timeout", "cx_connect_fail", "rq_total", "healthy")
_COUNT: Final = re.compile(rf"^cluster\.(.+)\.endpoint\.(\S+)\.({'|'.join(_WANTED)}): (\d{{1,19}})$", re.MULTILINE)
_ADDRESS: Final = re.compile(r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]{2,45}\]):\d{1,5}")
_URL: Final = re.compile(r"http://(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]{2,45}\]):\d{1,5}/[!-~]{0,512}")
#: What the choice is made from, of all that pages say.
_SIGNALS: Final = frozenset({"kv", "waiting", "running", "prompt_tokens", "generated_tokens", "steps"})

_CACHED: Final = "cached_tokens"


def spell(cluster: str) -> str:
    """A cluster's name as Envoy's statistics spell it."""
    return cluster.replace(":", "_")


def filter_counts(clusters: Collection[str]) -> str:
    """The regular expression for `/stats?filter=` that matches what `read_counts` reads of these clusters."""
    names = "|".join(re.escape(spell(name)) for name in sorted(clusters))
    return rf"^cluster\.({names if len(names) <= NAMES_MAXIMUM else '.+'})\.endpoint\..+\.({'|'.join(_WANTED)})$"


def read_counts(page: bytes) -> dict[str, dict[str, Counts]]:
    """Of each cluster, as statistics spell it, what is counted by address."""
    reading = CountsReading()
    for piece in cut(page):
        reading.take(piece)
    return reading.finish()


def cut(page: bytes, size: int = 32 * 1024) -> Iterator[bytes]:
    """Pieces of whole lines, so that whoever reads a long page can look after others between them."""
    at = 0
    while at < len(page):
        end = page.find(b"\n", at + size) + 1 or len(page)
        yield page[at:end]
        at = end


class CountsReading:
    """Reads a page of statistics piece by piece: 3 µs a line."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, int]] = {}

    def take(self, piece: bytes) -> None:
        """Takes whole lines."""
        for cluster, address, what, value in _COUNT.findall(piece.decode("utf-8", "replace")):
            self._found.setdefault((cluster, address), {})[what] = int(value)

    def finish(self) -> dict[str, dict[str, Counts]]:
        """Of each cluster what is counted by address, where all is."""
        counts: dict[str, dict[str, Counts]] = {}
        for (cluster, address), told in self._found.items():
            if len(told) == len(_WANTED):
                active = told["rq_active"] + told["rq_pending_active"]
                errors = told["rq_error"] + told["rq_timeout"] + told["cx_connect_fail"]
                read_one = Counts(active, errors, told["healthy"] > 0, told["rq_total"])
                counts.setdefault(cluster, {})[address.replace("_", ":")] = read_one
        return counts


@dataclass(frozen=True, slots=True)
class Texts:
    """What the operator tells through Envoy's runtime, by cluster, as it is written."""

    pools: Mapping[str, str]
    others: Mapping[str, str]


def read_runtime(page: bytes) -> Texts | None:
    """The entries of `/runtime` that are for us; None where the page is none of Envoy's."""
    entries = _load(page)
    entries = entries.get("entries") if isinstance(entries, dict) else None
    if not isinstance(entries, dict):
        return None
    told = {name: entry.get("final_value") for name, entry in entries.items() if isinstance(entry, dict)}
    texts = {name: text for name, text in told.items() if isinstance(text, str)}
    return Texts(_under(POOL, texts), _under(OTHERS, texts))


def _under(prefix: str, texts: Mapping[str, str]) -> dict[str, str]:
    return {name[len(prefix) :]: text for name, text in sorted(texts.items()) if name.startswith(prefix)}


def read_pool(cluster: str, text: str) -> tuple[Member, ...]:
    """The nodes that are described well; the others do not exist for the choice."""
    told = _load(text)
    if not isinstance(told, dict) or not isinstance(told.get("nodes"), list):
        return ()
    members = {}
    for each in told["nodes"][:MEMBERS_MAXIMUM]:
        if isinstance(each, dict) and (member := _read_member(cluster, each)) is not None:
            members[member.address] = member
    return tuple(members.values())


def _read_member(cluster: str, told: Mapping[str, Any]) -> Member | None:
    address, node, engine = (told.get(key) for key in ("address", "node", "engine"))
    if not (isinstance(address, str) and isinstance(node, str) and isinstance(engine, str)):
        return None
    if not _ADDRESS.fullmatch(address):
        return None
    urls = told.get("metrics")
    pages = [url for url in urls if isinstance(url, str) and _URL.fullmatch(url)] if isinstance(urls, list) else []
    capacity, mapping = told.get("capacity"), told.get("mapping")
    room = float(capacity) if isinstance(capacity, int | float) and 0 < capacity < 1e18 else None
    mapped = sorted(mapping.items()) if isinstance(mapping, dict) else ()
    return Member(
        address=address,
        cluster=cluster,
        node=node,
        engine=engine,
        metrics=tuple(pages[:PAGES_MAXIMUM]),
        capacity=room,
        mapping=tuple((signal, json.dumps(expression, sort_keys=True)) for signal, expression in mapped),
    )


@dataclass(frozen=True, slots=True)
class Others:
    """How many Envoys the gateway has, what all have in flight by address, and the nodes that the weights suspect."""

    active: Mapping[str, int]
    suspect: frozenset[str] = frozenset()
    envoys: int = 1


def read_others(text: str) -> Others | None:
    """None where it is unreadable, which is not the same as nothing in flight."""
    told = _load(text)
    if not isinstance(told, dict):
        return None
    active, suspect, envoys = told.get("active", {}), told.get("suspect", []), told.get("envoys")
    if not isinstance(active, dict) or not isinstance(suspect, list):
        return None
    counts = {address: count for address, count in active.items() if type(count) is int and 0 <= count < 2**31}
    doubted = frozenset(address for address in suspect if isinstance(address, str))
    return Others(counts, doubted, envoys if type(envoys) is int and 1 <= envoys <= 10_000 else 1)


@lru_cache(maxsize=1024)
def find_table(engine: str, mapping: tuple[tuple[str, str], ...] = ()) -> Table | None:
    """How the pages of a node are read, as far as the choice needs them; None where nothing of it is printed."""
    whole = _map(mapping) if mapping else ENGINES.get(engine)
    signals = tuple(each for each in whole.signals if each[0] in _SIGNALS) if whole else ()
    if not whole or not signals:
        return None
    if mapping:
        return replace(whole, signals=signals)
    cached = CACHED.get(engine)
    more = (((_CACHED, cached),) if cached else ()) + PROGRESS.get(engine, ())
    return replace(whole, signals=(*signals, *more))


def _map(mapping: tuple[tuple[str, str], ...]) -> Table | None:
    named: dict[LoadSignal, Mapped] = {}
    for signal, text in mapping:
        known = next((each for each in FIELDS if each == signal), None)
        try:
            if known is not None:
                named[known] = Mapped.model_validate_json(text)
        except ValidationError:
            continue
    return build_table(named) if named else None


def read_sample(table: Table, pages: Sequence[bytes], windows: MutableMapping[str, Window], at: float) -> Sample | None:
    """A node's pages of one instant; None where nothing of what the choice needs is on them.

    `windows` is the node's own, kept from sample to sample: counters that a custom engine's user made shares of.
    """
    wanted = families((table,))
    read_pages = [read(page, wanted, TOTAL_MAXIMUM) for page in pages]
    counters = dict(windows)
    values = read_table(table, read_pages, counters, at)
    windows.update(counters)
    cached, prompt = values.get(_CACHED), values.get("prompt_tokens")
    if cached is not None and prompt is not None:
        # Of two that no engine counts to the difference is mostly 0, and the node would seem never to read.
        sound = 0 <= cached <= MOST and 0 <= prompt <= MOST
        values["prompt_tokens"] = max(0.0, prompt - cached) if sound else None
    values["life"] = _find_life(table, values)
    return Sample(at, **values) if any(value is not None for value in values.values()) else None


def _find_life(table: Table, values: dict[str, float | None]) -> float | None:
    """A counter that stands still only where the engine does; takes its steps out of what was read."""
    steps = values.pop("steps", None)
    if not table.steady or any(signal == "steps" for signal, _ in table.signals):
        return steps if table.steady else None
    told = [tokens for name in ("prompt_tokens", "generated_tokens") if (tokens := values.get(name)) is not None]
    return sum(told) if told else None


def _load(text: str | bytes) -> Any:
    """Parsed JSON; None where it is none, or too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
