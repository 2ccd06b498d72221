"""What is new in a Report: weights, conditions, health, Envoys and problems, each as one line or one JSON object.

The first report counts as a change of everything, so that a log tells where it began. Scores and ages move all the
time and are no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final, Literal

from weighbridge_operator.report import EndpointReport, EnvoyReport, Report
from weighbridge_operator.views import words
from weighbridge_operator.views.lines import clean

What = Literal["weight", "condition", "health", "envoy", "entrance", "problem"]

#: Changes of weights of one pool in one line each; a larger turn is told in one line.
MOST_WEIGHTS: Final = 20
#: Reasons of a condition that pass by themselves when an Envoy starts.
PASSING: Final = ("(NoEnvoy)", "(Pending)")
LONG: Final = 10.0  # seconds without any Envoy that are worth a line


@dataclass(frozen=True, slots=True)
class Change:
    """`before` and `after` are None where the thing was not there, or is gone."""

    what: What
    subject: str
    before: str | None
    after: str | None
    text: str  # one sentence: why
    pool: str | None = None


def compare(before: Report | None, after: Report) -> tuple[Change, ...]:
    """What is different, the gravest first."""
    return (
        *_problems(before, after),
        *_envoys(before, after),
        *_entrance(before, after),
        *_conditions(before, after),
        *_endpoints(before, after),
    )


def tell(changes: Sequence[Change]) -> tuple[str, ...]:
    """One line for each change; what is as hoped from the start is told once, as are many changed weights of a pool."""
    crowds: dict[str, list[Change]] = {}
    for change in changes:
        if change.what == "weight":
            crowds.setdefault(change.pool or "", []).append(change)
    known = {(c.subject, c.text) for c in changes if c.text and c.what == "condition" and not _is_of_ready(c)}
    problems = tuple(c.text for c in changes if c.what == "problem")
    lines = [
        _tell(replace(c, text=_leave_out(c, known, problems)))
        for c in changes
        if not _is_expected(c) and (c.what != "weight" or len(crowds[c.pool or ""]) <= MOST_WEIGHTS)
    ]
    for pool, crowd in crowds.items():
        if len(crowd) > MOST_WEIGHTS:
            lines.append(f"pool {clean(pool)}: weights of {len(crowd)} nodes changed; `weighbridge explain` tells why")
    return tuple(lines)


def _is_of_ready(change: Change) -> bool:
    return change.what == "condition" and (change.after or "").startswith("Ready=")


def _leave_out(change: Change, known: Set[tuple[str, str]], problems: Sequence[str]) -> str:
    """Its text without what another line says: that of a file's problem, or of the condition for which it is not ready.

    What becomes of an object whose file has a problem only its condition says.
    """
    if change.what != "condition":
        return change.text
    if _is_of_ready(change) and (change.subject, change.text) in known:
        return ""
    told = [text for text in problems if "=False (Invalid)" in (change.after or "") and text in change.text]
    return change.text.replace(max(told, key=len), "").lstrip("; ") if told else change.text


def _is_expected(change: Change) -> bool:
    """A condition that is true from the start; that it is ready says it once for all of them."""
    state = change.after or ""
    if change.what != "condition" or _before(change) is not None:
        return False
    return state.endswith(PASSING) or ("=True" in state and not state.startswith("Ready="))


def _before(change: Change) -> str | None:
    """What was before that anybody need know."""
    passing = change.what == "condition" and change.before is not None and change.before.endswith(PASSING)
    return None if passing else change.before


def _tell(change: Change) -> str:
    if change.what == "entrance":
        return clean(f"{change.after}: {change.text}")
    pool, before = f" in pool {change.pool}" if change.pool else "", _before(change)
    turn = f"{before} -> {change.after or 'gone'}" if before else change.after
    text = f": {change.text}" if change.text else ""
    return clean(f"{change.subject}{pool}: {change.what} {turn}{text}" if turn else f"{change.what}{text}")


def _problems(before: Report | None, after: Report) -> Iterator[Change]:
    old = before.problems if before else ()
    for problem in after.problems:
        if problem not in old:
            yield Change("problem", "files", None, "found", problem)
    for problem in old:
        if problem not in after.problems:
            yield Change("problem", "files", "found", "solved", problem)


def _envoys(before: Report | None, after: Report) -> Iterator[Change]:
    old = {e.id: e for e in before.envoys} if before else {}
    new = {e.id: e for e in after.envoys}
    for name in sorted(old | new):
        was, now = (_stand(table[name]) if name in table else None for table in (old, new))
        if (was and was[0]) != (now and now[0]):
            yield Change("envoy", f"Envoy {name}", was and was[0], now and now[0], now[1] if now else "")


def _entrance(before: Report | None, after: Report) -> Iterator[Change]:
    """Once an Envoy has the listener, where callers come in; and that there is none, where it lasts."""
    serves, served = _serves(after), before is not None and _serves(before)
    if serves and not served:
        nodes = sum(bool(found.endpoints) for found in after.objects)
        counts = f"{nodes} node{'' if nodes == 1 else 's'}, {after.models} model{'' if after.models == 1 else 's'}"
        yield Change("entrance", after.entrance, None, f"listening on {after.entrance}", counts)
    if before is not None and not serves and before.uptime < LONG <= after.uptime:
        text = "no Envoy has taken the listener; `weighbridge status` says what is known"
        yield Change("entrance", after.entrance, None, f"not listening after {LONG:.0f} s", text)


def _serves(report: Report) -> bool:
    return any(kind.kind == "LDS" and kind.accepted for envoy in report.envoys for kind in envoy.kinds)


def _stand(envoy: EnvoyReport) -> tuple[str, str]:
    """What an Envoy holds, without what passes while it takes a change; and its words."""
    refused = [k for k in envoy.kinds if words.kind_state(k) == "refused"]
    if refused:
        stand = "refuses " + ", ".join(f"{k.kind} {words.refused(k)}" for k in refused)
        return stand, "; ".join(k.error for k in refused if k.error)
    return "connected", f"version {envoy.build}" if envoy.connected is not None else "to another replica"


def _conditions(before: Report | None, after: Report) -> Iterator[Change]:
    old = {(o.kind, o.namespace, o.name): o for o in before.objects} if before else {}
    for found in after.objects:
        was = old.pop((found.kind, found.namespace, found.name), None)
        known = {c.type: (c.status, c.reason) for c in was.conditions} if was else {}
        subject = f"{found.kind} {found.namespace}/{found.name}"
        for c in found.conditions:
            last = known.get(c.type)
            if last != (c.status, c.reason):
                then = _state(c.type, *last) if last else None
                yield Change("condition", subject, then, _state(c.type, c.status, c.reason), c.message)
    for kind, namespace, name in old:
        yield Change("condition", f"{kind} {namespace}/{name}", "present", "gone", "")


def _state(kind: str, status: str, reason: str) -> str:
    return f"{kind}={status}" if reason == kind else f"{kind}={status} ({reason})"


def _endpoints(before: Report | None, after: Report) -> Iterator[Change]:
    old = _by_place(before) if before else {}
    new = _by_place(after)
    for (node, pool), now in new.items():
        was = old.get((node, pool))
        if was is None or was.weight != now.weight:
            then = _weight(was) if was else None
            yield Change("weight", f"node {node}", then, _weight(now), words.without_weight(clean(now.reason)), pool)
        if (was.healthy if was else True) is not False and now.healthy is False:
            why = "ejected, or its health check fails" + (f": {now.error}" if now.error else "")
            yield Change("health", f"node {node}", None, "out of service", why, pool)
        if was is not None and was.healthy is False and now.healthy is not False:
            yield Change("health", f"node {node}", "out of service", "in service", "", pool)
    for (node, pool), was in old.items():
        if (node, pool) not in new:
            yield Change("weight", f"node {node}", _weight(was), None, "it left the pool", pool)


def _by_place(report: Report) -> dict[tuple[str, str], EndpointReport]:
    return {
        (f"{o.namespace}/{o.name}" + (f"/{e.name}" if e.name else ""), e.pool): e
        for o in report.objects
        for e in o.endpoints
    }


def _weight(endpoint: EndpointReport) -> str:
    return f"{endpoint.weight} ({words.percent(endpoint.weight_share)})"
