"""The conditions of each object, from what reading, resolving, weighing and the Envoys' answers found out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from weighbridge_api.conditions import ACCEPTED, METRICS_FRESH, PROGRAMMED, READY, RESOLVED_REFS
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.verdict import NodeFacts
from weighbridge_operator.report import ConditionReport
from weighbridge_operator.state import Ref, Rejection
from weighbridge_operator.xds.envoys import EnvoyState, EnvoyStates, Lack
from weighbridge_operator.xds.kinds import LABELS, LISTENER, ROUTE

RIVALS = 3  # policies that a message names


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of all objects."""

    rejections: Mapping[Ref, Rejection]
    findings: Mapping[Ref, tuple[Finding, ...]]
    envoys: EnvoyStates | None
    published: bool
    #: Envoys that are connected to another replica, and what they lack.
    elsewhere: Mapping[str, Lack | None] = field(default_factory=dict)
    #: Those of them that have no data plane beside them.
    without: frozenset[str] = frozenset()


def judge_policy(
    ref: Ref, evidence: Evidence, clusters: Iterable[str], servers: int = 0, *, up: bool = True, precise: bool = False
) -> tuple[ConditionReport, ...]:
    """A policy's conditions. `clusters`: the names of what stands for it in the snapshot; `up`: requests can be served.

    `servers` is how many there are in all of its pools; `precise`: as it says.
    """
    programmed = _programmed(evidence, clusters)
    if precise and programmed.status == "True" and (without := _list_without_dataplane(evidence)):
        message = f"{without} has no data plane beside it: there the weights decide, whatever balance.precise says"
        programmed = ConditionReport(PROGRAMMED, "True", "NoDataPlane", message)
    known = _with_ready((*_validity(ref, evidence), programmed))
    if up or known[-1].status != "True":
        return known
    which = f"all {servers} servers of its pools are" if servers > 1 else "the only server of its pools is"
    why = f"{which} out of service" if servers else "no node that it sends to has a ready server"
    message = f"{why}, so that its requests are answered with 503; look at the ModelNodes"
    return (*known[:-1], ConditionReport(READY, "False", "NoNodeAvailable", message))


def _list_without_dataplane(evidence: Evidence) -> str:
    envoys = evidence.envoys.envoys if evidence.envoys else ()
    here = {envoy.id for envoy in envoys if not envoy.dataplane}
    return ", ".join(f"Envoy {name}" for name in sorted(here | evidence.without))


def judge_node(
    ref: Ref,
    evidence: Evidence,
    clusters: Iterable[str],
    facts: Iterable[NodeFacts],
    *,
    asked: bool,
    healthy: bool,
    rivals: Sequence[str] = (),
) -> tuple[ConditionReport, ...]:
    """A node's conditions. `asked`: it has an endpoint that prints metrics; `healthy`: no Envoy keeps it out.

    `rivals`: the policies that speak for requests for its models, where it stands in no pool.
    """
    served = (*_validity(ref, evidence), _programmed(evidence, clusters, _tell_rivals(rivals)))
    own = tuple(facts)
    known = (*served, _fresh(own, asked))
    # A node that is down prints no metrics either: what keeps it from serving is the reason to tell.
    if not healthy and _with_ready(served)[-1].status == "True":
        why = "an Envoy keeps it out: it failed in a row, or its health check does; look at the node's own log"
        errors = [f.error for f in own if f.error]
        seen = f"; {_of_all(errors, len(own))}" if errors else ""
        return (*known, ConditionReport(READY, "False", "OutOfService", why + seen))
    return _with_ready(known)


def _validity(ref: Ref, evidence: Evidence) -> tuple[ConditionReport, ConditionReport]:
    rejection = evidence.rejections.get(ref)
    if rejection is not None:
        accepted = ConditionReport(ACCEPTED, "False", "Invalid", rejection.told)
    else:
        accepted = _from_findings(ACCEPTED, "Valid", evidence.findings.get(ref, ()))
    return accepted, _from_findings(RESOLVED_REFS, "Resolved", evidence.findings.get(ref, ()))


def _from_findings(kind: str, reason: str, findings: tuple[Finding, ...]) -> ConditionReport:
    against = [f for f in findings if f.condition == kind]
    if not against:
        return ConditionReport(kind, "True", reason, "")
    return ConditionReport(kind, "False", against[0].reason, "; ".join(f.message for f in against))


def _tell_rivals(rivals: Sequence[str]) -> str:
    if not rivals:
        return ""
    told = ", ".join(rivals[:RIVALS]) + (f" and {len(rivals) - RIVALS} more" if len(rivals) > RIVALS else "")
    return (
        f": RoutePolicy {told} speaks for requests for its models and sends them to others; a policy knows the nodes "
        "of its own namespace alone, and of these the ones whose labels it selects and whose version it names"
    )


def _programmed(evidence: Evidence, clusters: Iterable[str], why: str = "") -> ConditionReport:
    own = set(clusters)
    envoys = evidence.envoys.envoys if evidence.envoys else ()
    refused = [text for envoy in envoys for text in _refusals(envoy, own)]
    lacks = [(envoy, lack) for envoy, lack in evidence.elsewhere.items() if lack is not None and _concerns(lack, own)]
    refused += [
        f"Envoy {envoy} does not take it; the replica that it is connected to says why in an event"
        for envoy, lack in lacks
        if lack.lasting
    ]
    waiting = ", ".join([*(envoy.id for envoy in envoys if _waits(envoy, own)), *(envoy for envoy, _ in lacks)])
    if not evidence.published:
        status, reason, message = "False", "Pending", "nothing is published yet"
    elif not envoys and not evidence.elsewhere:
        status, reason, message = "Unknown", "NoEnvoy", "no Envoy is connected"
    elif refused:
        status, reason, message = "False", "Refused", refused[0]
    elif not own:
        status, reason, message = "False", "NotUsed", f"no request can reach it{why}"
    elif waiting:
        status, reason, message = "False", "Pending", f"{waiting} does not hold it yet"
    else:
        status, reason, message = "True", "Programmed", ""
    return ConditionReport(PROGRAMMED, status, reason, message)


def _concerns(lack: Lack, own: set[str]) -> bool:
    return lack.names is None or not lack.names.isdisjoint(own)


def _waits(envoy: EnvoyState, own: set[str]) -> bool:
    """Whether it lacks what stands for an object. What it refused of others keeps nothing from this one."""
    if not envoy.kinds:
        return True
    return any(kind.lacking and (kind.kind in (LISTENER, ROUTE) or kind.lacking & own) for kind in envoy.kinds)


def _refusals(envoy: EnvoyState, own: set[str]) -> Iterator[str]:
    # A refused route table or listener concerns every object; a cluster or secret those that stand in it.
    for kind in envoy.kinds:
        for name, refusal in kind.refusals:
            if name in own or kind.kind in (LISTENER, ROUTE):
                yield f"Envoy {envoy.id} refused {LABELS[kind.kind]} {name}: {refusal.text}"


def _fresh(facts: tuple[NodeFacts, ...], asked: bool) -> ConditionReport:
    if not facts:
        return ConditionReport(METRICS_FRESH, "Unknown", "NotAsked", "it stands in no pool")
    if not asked:
        return ConditionReport(METRICS_FRESH, "Unknown", "NoSource", "its engine publishes no load")
    doubted = [f.reason for f in facts if f.suspicion != "none"]
    if doubted:
        return ConditionReport(METRICS_FRESH, "False", "Contradicted", _of_all(doubted, len(facts)))
    stale = [f.error or "no numbers lately" for f in facts if not f.fresh]
    if stale:
        return ConditionReport(METRICS_FRESH, "False", "Stale", _of_all(stale, len(facts)))
    found = [f.finding for f in facts if f.finding]
    if found:
        return ConditionReport(METRICS_FRESH, "True", "CapacityContradicted", _of_all(found, len(facts)))
    partly = [f.error for f in facts if f.error]
    reason, message = ("Partial", _of_all(partly, len(facts))) if partly else ("Fresh", "")
    return ConditionReport(METRICS_FRESH, "True", reason, message)


def _of_all(texts: Sequence[str], servers: int) -> str:
    """The first text, and how many of the node's servers have the like."""
    return texts[0] if servers == 1 else f"{len(texts)} of {servers}: {texts[0]}"


def _with_ready(conditions: tuple[ConditionReport, ...]) -> tuple[ConditionReport, ...]:
    # A server that publishes no load is weighed by Envoy's counts alone; that is no fault.
    wrong = [c for c in conditions if c.status == "False" or (c.status == "Unknown" and c.type != METRICS_FRESH)]
    if not wrong:
        return (*conditions, ConditionReport(READY, "True", "Ready", ""))
    first = wrong[0]
    return (*conditions, ConditionReport(READY, "False", first.reason, first.message or f"{first.type} is not true"))
