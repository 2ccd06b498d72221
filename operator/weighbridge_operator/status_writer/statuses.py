"""From the report to each object's status as the CRDs have it, on a grid so coarse that noise makes no difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from weighbridge_api.conditions import ACCEPTED, MOST_ENDPOINTS, RESOLVED_REFS
from weighbridge_operator.report import ConditionReport, EndpointReport, ObjectReport, PoolReport, Report

Status = dict[str, Any]

AGES = (5, 15, 60, 300, 3600)  # seconds; beyond the last it says OLD
OLD = 86400
LONGEST_MESSAGE, LONGEST_REASON = 4096, 1024


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """The object that a status belongs to. Another `uid` under the same name is another object."""

    kind: str
    namespace: str
    name: str
    uid: str = ""


#: (kind, namespace, name) -> generation, and the conditions that judge what the user wrote
Verdicts = dict[tuple[str, str, str], tuple[int, tuple[str, ...]]]


def list_verdicts(report: Report) -> Verdicts:
    """What is said of what users wrote; cheap beside the statuses."""
    return {
        (o.kind, o.namespace, o.name): (
            o.generation,
            tuple(c.status for c in o.conditions if c.type in (ACCEPTED, RESOLVED_REFS)),
        )
        for o in report.objects
    }


def build_statuses(report: Report) -> dict[Subject, Status]:
    """Every object's status, without the times at which conditions changed."""
    pools = {pool.name: pool for pool in report.pools}
    return {Subject(o.kind, o.namespace, o.name, o.uid): _build(o, pools) for o in report.objects}


def _build(known: ObjectReport, pools: Mapping[str, PoolReport]) -> Status:
    conditions = [_condition(each, known.generation) for each in known.conditions]
    if known.kind == "RoutePolicy":
        own = [_pool(pools[name]) for name in known.pools if name in pools]
        own.sort(key=lambda pool: (-pool.get("load", -1), pool["name"]))
        return {"conditions": conditions, "pools": own[:MOST_ENDPOINTS]}
    servers = sorted(known.endpoints, key=_rank)
    status: Status = {"conditions": conditions, "endpoints": [_endpoint(each) for each in servers[:MOST_ENDPOINTS]]}
    return status | {"summary": _summarise(servers)} if servers else status


def _condition(known: ConditionReport, generation: int) -> Status:
    return {
        "type": known.type,
        "status": known.status,
        "reason": known.reason,
        "message": known.message[:LONGEST_MESSAGE],
        "observedGeneration": generation,
    }


def _pool(known: PoolReport) -> Status:
    said = {"name": known.name, "profile": known.profile, "servers": len(known.nodes)}
    return said if known.load is None else said | {"load": round(known.load)}


def _rank(known: EndpointReport) -> tuple[bool, bool, float, str, str]:
    """The worst first: out of service, then without numbers, then by score."""
    return known.healthy is not False, known.score is not None, -(known.score or 0.0), known.pool, known.address


def _endpoint(known: EndpointReport) -> Status:
    said: Status = {
        "pool": known.pool,
        "server": known.name or known.address,
        "address": known.address,
        "weight": known.weight,
    }
    if known.factors is not None:
        said["factors"] = {name: round(value, 3) for name, value in asdict(known.factors).items()}
    if known.healthy is not None:
        said["healthy"] = known.healthy
    if known.score is not None:
        said["score"] = round(known.score)
        said["parts"] = {part.signal: round(part.points, 1) for part in known.parts}
    if known.request_share is not None:
        said["share"] = _bound(known.request_share)
    if known.age is not None:
        said["age"] = _round_age(known.age)
    return said | {"reason": known.reason[:LONGEST_REASON]} if known.reason else said


def _summarise(servers: Sequence[EndpointReport]) -> Status:
    """The node's worst server, and its sums in the first of its pools."""
    first = min(each.pool for each in servers)
    own = [each for each in servers if each.pool == first]
    up = sum(1 for each in own if each.healthy is not False)
    said: Status = {"servers": f"{up}/{len(own)}", "weight": sum(each.weight for each in own)}
    scores, shares, ages = (
        _known(each.score for each in servers),
        _known(each.request_share for each in own),
        _known(each.age for each in servers),
    )
    if scores:
        said["score"] = round(max(scores))
    if shares:
        said["share"] = _bound(sum(shares))
    if ages:
        said["age"] = _round_age(max(ages))
    return said


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _bound(share: float) -> float:
    return min(100.0, round(share, 1))


def _round_age(age: float) -> int:
    return next((limit for limit in AGES if age <= limit), OLD)
