"""What every Envoy says of itself: requests in flight at each endpoint, its health, which versions it holds.

Complete or nothing: requests of an Envoy that was not read would look like others' load on the nodes, and the law would
answer its own traffic. So one live Envoy without an answer makes the counts of all of them unknown, and names itself.

One statistics request brings it all (per-endpoint statistics must be on: `track_cluster_stats.per_endpoint_stats`).
Measured on Envoy 1.40 with 10,000 endpoints in 1,000 clusters: 4.1 MB and 0.22 s of its main thread, 0.1 s here.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp

from weighbridge_metrics import exposition
from weighbridge_operator.sources.scrape import LARGE, READER, FetchError, fetch

TIMEOUT = 1.0  # seconds for one Envoy
SIZE = 32 * 2**20  # bytes of its page: 80,000 endpoints
_WANTED = (
    r"^(cluster\..+\.endpoint\..+\.(rq_active|rq_total|healthy)|cluster_manager\.warming_clusters|server\.live"
    r"|cluster\.dataplane\.membership_(total|healthy)"
    r"|(cluster_manager\.cds|listener_manager\.lds|http\.entrance\.rds\.entrance|sds\..+)\.version_text)$"
)
PATH = f"/stats/prometheus?text_readouts&filter={quote(_WANTED)}"

_WARMING = "envoy_cluster_manager_warming_clusters"
_LIVE = "envoy_server_live"
_VERSIONS = {
    "envoy_cluster_manager_cds_version_text": "CDS",
    "envoy_listener_manager_lds_version_text": "LDS",
    "envoy_http_rds_version_text": "RDS",
}
_SDS = "envoy_sds_version_text"
_DATAPLANES = "envoy_cluster_membership_total"  # asked for of that cluster alone
_ANSWERING = "envoy_cluster_membership_healthy"  # the same
_FAMILIES = frozenset({_WARMING, _LIVE, _SDS, _DATAPLANES, _ANSWERING, *_VERSIONS})
#: Lines of endpoints are all but a few of a page, so that they have a reader of their own, in half of the time.
_COUNTS = r"^envoy_cluster_endpoint_(rq_active|rq_total|healthy)[ {]"
_LINE = re.compile(_COUNTS, re.MULTILINE)
_COUNT = re.compile(
    _COUNTS + r'(?=[^}\n]*envoy_cluster_name="([^"\\\n]*)")(?=[^}\n]*envoy_endpoint_address="([^"\\\n]*)")'
    r"[^}\n]*\} (\d+)$",
    re.MULTILINE,
)

#: Cluster as Envoy's statistics spell it (see `spell`), and "ip:port", IPv6 in brackets.
Endpoint = tuple[str, str]


@dataclass(frozen=True, slots=True)
class EnvoyState:
    """One Envoy at the instant of its answer (seconds, monotonic)."""

    at: float
    active: Mapping[Endpoint, int]
    #: False for a host that is ejected, fails its health check, or drains.
    healthy: Mapping[Endpoint, bool]
    #: Requests sent since it started.
    total: Mapping[Endpoint, int]
    warming_clusters: int
    #: False while it drains before its end; it may still have requests in flight.
    live: bool
    #: What it accepted last, by CDS, LDS and RDS. Assignments have none: their content differs by weights alone, and
    #: replicas need not agree on those at every moment; which endpoints it has, `active` tells.
    versions: Mapping[str, str] = field(default_factory=dict)
    #: Of each secret that it asked for, the version of the response that brought it; "" where none did yet.
    secrets: Mapping[str, str] = field(default_factory=dict)
    dataplanes: int = 0  # processes of a data plane that it was started with
    answering: int = 0  # of those, by its own health check

    def holds(self, versions: Mapping[str, str], endpoints: Iterable[Endpoint]) -> bool:
        """Whether it runs these versions and has all of these endpoints."""
        return all(self.versions.get(kind) == version for kind, version in versions.items()) and all(
            endpoint in self.active for endpoint in endpoints
        )


@dataclass(frozen=True, slots=True)
class EnvoyRound:
    """All Envoys at one instant."""

    states: Mapping[str, EnvoyState]  # by Envoy id
    missing: Mapping[str, str]  # Envoy id -> why it could not be read, in words

    @property
    def active(self) -> Mapping[Endpoint, int] | None:
        """Requests in flight, summed over all Envoys; None if one is missing, or if there is none to ask."""
        if self.missing or not self.states:
            return None
        total: dict[Endpoint, int] = {}
        for state in self.states.values():
            for endpoint, count in state.active.items():
                total[endpoint] = total.get(endpoint, 0) + count
        return total


def spell(cluster: str) -> str:
    """A cluster's name as Envoy's statistics spell it, which use the colon themselves."""
    return cluster.replace(":", "_")


async def read_envoys(
    session: aiohttp.ClientSession,
    bases: Mapping[str, str | None],
    clock: Callable[[], float],
    *,
    limit: float = TIMEOUT,
    optional: Set[str] = frozenset(),
) -> EnvoyRound:
    """Asks every Envoy at once; `bases` are their administration URLs ("http://127.0.0.1:9901") by Envoy id.

    One that tells no URL can't be read, and is missing. One of `optional`, which begins or ends, counts if it answers.
    """
    answers = await asyncio.gather(*(_read_envoy(session, base, clock, limit) for base in bases.values()))
    answered = dict(zip(bases, answers, strict=True))
    return EnvoyRound(
        states={envoy: answer for envoy, answer in sorted(answered.items()) if isinstance(answer, EnvoyState)},
        missing={
            envoy: answer
            for envoy, answer in sorted(answered.items())
            if isinstance(answer, str) and envoy not in optional
        },
    )


async def _read_envoy(
    session: aiohttp.ClientSession, base: str | None, clock: Callable[[], float], limit: float
) -> EnvoyState | str:
    if base is None:
        return "does not tell where its statistics are: start it with what `weighbridge bootstrap` prints"
    try:
        page = await fetch(session, base + PATH, clock, timeout=limit, size=SIZE)
    except FetchError as error:
        return str(error)
    if len(page.text) > LARGE:
        state = await asyncio.get_running_loop().run_in_executor(READER, read_statistics, page.text, page.at)
    else:
        state = read_statistics(page.text, page.at)
    return state or f"{base.rpartition('/')[2]} answered something else than an Envoy's statistics"


def read_statistics(text: bytes, at: float) -> EnvoyState | None:
    """Reads one Envoy's answer; None if it is none, or not whole."""
    page, counts = exposition.read(text, _FAMILIES), _read_counts(text.decode("utf-8", "replace"))
    live, warming = _read_one(page, _LIVE), _read_one(page, _WARMING)
    if live is None or warming is None or page.broken or counts is None:
        return None
    return EnvoyState(
        at=at,
        active=counts["rq_active"],
        healthy={endpoint: value > 0 for endpoint, value in counts["healthy"].items()},
        total=counts["rq_total"],
        warming_clusters=warming,
        live=live > 0,
        versions={
            kind: sample.labels.get("text_value", "")
            for family, kind in _VERSIONS.items()
            for sample in page.families.get(family, ())
        },
        secrets={
            sample.labels.get("envoy_xds_resource_name", ""): sample.labels.get("text_value", "")
            for sample in page.families.get(_SDS, ())
        },
        dataplanes=_read_one(page, _DATAPLANES) or 0,
        answering=_read_one(page, _ANSWERING) or 0,
    )


def _read_one(page: exposition.Page, family: str) -> int | None:
    samples = page.families.get(family, ())
    return int(samples[0].value) if len(samples) == 1 and math.isfinite(samples[0].value) else None


def _read_counts(text: str) -> Mapping[str, dict[Endpoint, int]] | None:
    """What is counted by endpoint; None where a line is not as Envoy writes them."""
    counts: dict[str, dict[Endpoint, int]] = {"rq_active": {}, "rq_total": {}, "healthy": {}}
    names: dict[Endpoint, Endpoint] = {}
    lines = 0
    for lines, match in enumerate(_COUNT.finditer(text), start=1):  # noqa: B007  the last number is wanted
        what, cluster, address, value = match.groups()
        endpoint = names.setdefault((cluster, address), (cluster, address))
        counts[what][endpoint] = int(value)
    return counts if lines == sum(1 for _ in _LINE.finditer(text)) else None
