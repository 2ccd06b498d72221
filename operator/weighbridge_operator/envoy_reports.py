"""What is told of each Envoy; of those that are connected to another replica by what their own statistics say.

Versions of clusters, listener and routes say it by themselves. Assignments differ between replicas by weights, which
each works out for itself, so of these the endpoints count. Secrets leave no version in Envoy's statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weighbridge_operator.report import EnvoyReport, KindReport
from weighbridge_operator.sources.envoys import Endpoint, EnvoyRound
from weighbridge_operator.xds.envoys import EnvoyState, EnvoyStates
from weighbridge_operator.xds.kinds import CLUSTER, LABELS, LISTENER, ROUTE
from weighbridge_operator.xds.snapshot import Snapshot


def judge_elsewhere(
    here: EnvoyStates | None, answered: EnvoyRound, snapshot: Snapshot | None, endpoints: Iterable[Endpoint]
) -> Mapping[str, str | None]:
    """Each Envoy that is not connected here, and what it lacks in words; None where it holds all of the snapshot."""
    connected = {envoy.id for envoy in here.envoys} if here else set()
    versions = {LABELS[kind]: snapshot.versions[kind] for kind in (CLUSTER, LISTENER, ROUTE)} if snapshot else {}
    wanted = tuple(endpoints)
    found: dict[str, str | None] = {
        envoy: None if snapshot and state.holds(versions, wanted) else "it does not hold the newest configuration"
        for envoy, state in answered.states.items()
        if envoy not in connected
    }
    found |= {envoy: why for envoy, why in answered.missing.items() if envoy not in connected}
    return dict(sorted(found.items()))


def report_envoys(
    here: EnvoyStates | None, answered: EnvoyRound, elsewhere: Mapping[str, str | None], now: float
) -> tuple[EnvoyReport, ...]:
    """Every Envoy for people: those that are connected here with what each accepted or refused, then the others."""
    return (
        *(_report_here(envoy, answered, now) for envoy in (here.envoys if here else ())),
        *(
            EnvoyReport(envoy, "", connected=None, current=lack is None, kinds=(), error=answered.missing.get(envoy))
            for envoy, lack in elsewhere.items()
        ),
    )


def _report_here(envoy: EnvoyState, answered: EnvoyRound, now: float) -> EnvoyReport:
    kinds = (
        KindReport(
            kind=LABELS[kind.kind],
            offered=kind.wanted,
            accepted=kind.accepted,
            rejected=", ".join(name for name, _ in kind.refusals) or None,
            error="; ".join(f"{name}: {refusal.text}" for name, refusal in kind.refusals) or None,
        )
        for kind in envoy.kinds
    )
    error = answered.missing.get(envoy.id)
    return EnvoyReport(envoy.id, envoy.build, now - envoy.since, envoy.current, tuple(kinds), error)
