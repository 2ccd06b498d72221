"""What is told of each Envoy; of those that are connected to another replica by what their own statistics say.

Versions of clusters, listener and routes say it by themselves. Assignments differ between replicas by weights, which
each works out for itself, so of these the endpoints count. A secret comes in a response of its own, whose version every
replica knows, as long as there are no more secrets than responses at once; else nothing is known of secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weighbridge_operator.report import EnvoyReport, KindReport
from weighbridge_operator.sources.envoys import Endpoint, EnvoyRound
from weighbridge_operator.sources.envoys import EnvoyState as Answer
from weighbridge_operator.xds.ads import SPREAD
from weighbridge_operator.xds.envoys import EnvoyState, EnvoyStates, Lack
from weighbridge_operator.xds.kinds import CLUSTER, LABELS, LISTENER, ROUTE, SECRET
from weighbridge_operator.xds.snapshot import Resource, Snapshot, combine_versions

MOST = 100  # clusters among which the one that is missing is looked for
LASTING = 10.0  # seconds; a change takes less
ENVOYS = 5  # that notices name
BEHIND = "it does not hold the newest configuration"


class Elsewhere:
    """The Envoys that are connected to other replicas. Remembers what clusters were before, and since when what lacks.

    An Envoy that refuses one cluster is sent all others, and the last accepted form of this one. So the version that it
    names tells which one is missing, to a replica that never spoke with it.
    """

    def __init__(self) -> None:
        self._clusters: Mapping[str, Resource] = {}
        self._former: dict[str, Resource] = {}
        self._since: dict[tuple[str, str], float] = {}  # Envoy, cluster -> since when it lacks this form

    def judge(
        self,
        here: EnvoyStates | None,
        answered: EnvoyRound,
        snapshot: Snapshot | None,
        endpoints: Iterable[Endpoint],
        now: float,
    ) -> Mapping[str, Lack | None]:
        """Each Envoy that is not connected here, and what it lacks; None where it holds all of the snapshot."""
        if snapshot is not None:
            self._follow(snapshot.of(CLUSTER))
        connected = {envoy.id for envoy in here.envoys} if here else set()
        wanted = tuple(endpoints)
        found: dict[str, Lack | None] = {
            envoy: Lack(why) for envoy, why in answered.missing.items() if envoy not in connected
        }
        for envoy, state in answered.states.items():
            if envoy not in connected:
                found[envoy] = self._compare(envoy, state, snapshot, wanted, now)
        return dict(sorted(found.items()))

    def _follow(self, clusters: Mapping[str, Resource]) -> None:
        if clusters is self._clusters:
            return
        for name, resource in clusters.items():
            old = self._clusters.get(name)
            if old is not None and old.version != resource.version:
                self._former[name] = old
                self._since = {key: since for key, since in self._since.items() if key[1] != name}
        self._former = {name: form for name, form in self._former.items() if name in clusters}
        self._clusters = clusters

    def _compare(
        self, envoy: str, state: Answer, snapshot: Snapshot | None, wanted: tuple[Endpoint, ...], now: float
    ) -> Lack | None:
        if snapshot is None:
            return Lack(BEHIND)
        versions = {LABELS[kind]: snapshot.versions[kind] for kind in (CLUSTER, LISTENER, ROUTE)}
        names = _find_old_secrets(state.secrets, snapshot)
        if not state.holds(versions, wanted):
            if any(state.versions.get(LABELS[kind]) != versions[LABELS[kind]] for kind in (LISTENER, ROUTE)):
                return Lack(BEHIND)
            clusters = self._find_missing(state.versions.get(LABELS[CLUSTER], ""), snapshot)
            if clusters is None:
                return Lack(BEHIND)
            names |= clusters
        self._keep(envoy, names)
        if not names:
            return None
        since = [self._since.setdefault((envoy, name), now) for name in names]
        return Lack(BEHIND, names, lasting=now - max(since) > LASTING)

    def _keep(self, envoy: str, names: frozenset[str]) -> None:
        """Forgets since when the Envoy lacked others."""
        self._since = {key: since for key, since in self._since.items() if key[0] != envoy or key[1] in names}

    def _find_missing(self, version: str, snapshot: Snapshot) -> frozenset[str] | None:
        """The one cluster without whose newest form the set has this version; None where it is not one."""
        if len(self._clusters) > MOST or version == snapshot.versions[CLUSTER]:
            return None
        every = tuple(self._clusters.values())
        for position, resource in enumerate(every):
            before, after = every[:position], every[position + 1 :]
            former = self._former.get(resource.name)
            if combine_versions((*before, *after)) == version:
                return frozenset({resource.name})
            if former is not None and combine_versions((*before, former, *after)) == version:
                return frozenset({resource.name})
        return None


def _find_old_secrets(told: Mapping[str, str], snapshot: Snapshot) -> frozenset[str]:
    """Names of secrets that the Envoy has asked for and holds in another form, or not yet."""
    secrets = snapshot.of(SECRET)
    if len(secrets) > SPREAD:
        return frozenset()
    wanted = {name: combine_versions((secret,)) for name, secret in secrets.items()}
    return frozenset(name for name, version in wanted.items() if told.get(name, version) != version)


def report_envoys(
    here: EnvoyStates | None, answered: EnvoyRound, elsewhere: Mapping[str, Lack | None], now: float
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
    error = envoy.doubt or answered.missing.get(envoy.id)
    return EnvoyReport(envoy.id, envoy.build, now - envoy.since, envoy.current, tuple(kinds), error)


def tell_dataplanes(answered: EnvoyRound) -> tuple[str, ...]:
    """Where less than the whole data plane decides, though a policy is `precise`; a line an Envoy, the first few."""
    lacking = {name: state for name, state in answered.states.items() if not 0 < state.dataplanes == state.answering}
    told = [_tell_dataplane(name, state) for name, state in lacking.items()]
    rest = [f"the like of {len(told) - ENVOYS} more Envoys"] if len(told) > ENVOYS else []
    return (*told[:ENVOYS], *rest)


def _tell_dataplane(name: str, state: Answer) -> str:
    there, silent = state.dataplanes, state.dataplanes - state.answering
    if state.answering:
        verb = "do" if silent > 1 else "does"
        return f"{silent} of Envoy {name}'s {there} data planes {verb} not answer: the rest decide alone"
    match there:
        case 0:
            what = f"Envoy {name} has no data plane beside it"
        case 1:
            what = f"Envoy {name}'s data plane does not answer"
        case _:
            what = f"none of Envoy {name}'s {there} data planes answers"
    return f"{what}: there the weights decide, whatever balance.precise says"
