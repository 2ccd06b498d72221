"""Builds the report from what the control plane knows now. Feedback for people: none of it enters a decision."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypedDict

from weighbridge_api.base import Metadata
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.conditions import Evidence, judge_node, judge_policy
from weighbridge_operator.core import ir
from weighbridge_operator.core.doors import Doors
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.tick import Weighed
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.envoy_reports import Elsewhere, report_envoys, tell_dataplanes
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.report import (
    EndpointReport,
    FactorsReport,
    ObjectReport,
    PoolReport,
    Remarks,
    Report,
    SignalReport,
    WriterReport,
)
from weighbridge_operator.sources.envoys import EnvoyRound, spell
from weighbridge_operator.sources.merging import report_servers
from weighbridge_operator.sources.targets import list_owners
from weighbridge_operator.state import DesiredState, Objects, Ref
from weighbridge_operator.tally import Tally, Traffic
from weighbridge_operator.xds.envoys import Lack
from weighbridge_operator.xds.names import name_authorities, name_cluster, name_credential, print_address

MOST_SERVED = 100  # ways to one pool that a report lists
PERIOD = 0.5  # seconds between reports
REST = 20  # times as long as a report took, for fleets so large that it takes long
REST_AFTER_EDIT = 3  # the same, where objects changed: somebody waits for what is said of them

Remark = Callable[[Doors], Remarks]

_Place = tuple[ir.Pool, ir.Part, ir.Endpoint]


class Reporter:
    """Keeps `reports` true, twice a second."""

    def __init__(
        self, loop: Loop, entrance: str, clock: Callable[[], float], remark: Remark = lambda _: Remarks()
    ) -> None:
        self.reports: Latest[Report] = Latest()
        self._loop, self._entrance, self._clock = loop, entrance, clock
        self._began, self._remark = clock(), remark
        self._tally, self._elsewhere = Tally(), Elsewhere()
        #: Tells of what writes the objects' status; set where something does.
        self.describe_writer: Callable[[], WriterReport | None] = lambda: None

    async def run(self) -> None:
        """Reports until cancelled."""
        while True:
            began, version = self._clock(), self._loop.planned.version
            self.reports.set(self.build())
            took = self._clock() - began
            least, most = max(PERIOD, REST_AFTER_EDIT * took), max(PERIOD, REST * took)
            await asyncio.sleep(least)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._loop.planned.wait_newer(version), most - least)

    def build(self) -> Report:
        """The report of this moment."""
        loop, now = self._loop, self._clock()
        loaded, snapshot = self._objects, loop.snapshots.get()
        gateway = loop.resolved.gateway if loop.resolved else ir.Gateway()
        served = ((spell(cluster), address) for cluster, address in list_owners(gateway))
        elsewhere = self._elsewhere.judge(loop.envoys.get(), self._answered, snapshot, served, now)
        evidence = self._gather(elsewhere)
        traffic = self._tally.take(gateway, self._answered, loop.rounds.get(), now)
        desired = loaded.desired if loaded else DesiredState()
        places = _find_places(gateway)
        objects = [self._node(node, places.get(node.id, ()), evidence, traffic, now) for node in desired.nodes]
        objects += [_policy(policy, gateway, evidence, traffic) for policy in desired.policies]
        present = {(o.kind, o.namespace, o.name) for o in objects}
        objects += [
            ObjectReport(ref.kind, ref.namespace, ref.name, judge_policy(ref, evidence, ()), **_identify(ref, evidence))
            for ref in evidence.rejections
            if (ref.kind, ref.namespace, ref.name) not in present
        ]
        return Report(
            version=snapshot.version if snapshot else None,
            entrance=self._entrance,
            objects=tuple(sorted(objects, key=lambda o: (o.kind, o.namespace, o.name))),
            pools=_pools(gateway, loop.weighed, now),
            envoys=report_envoys(loop.envoys.get(), self._answered, elsewhere, now),
            problems=(*(str(problem) for problem in loaded.problems), *loop.doors.problems) if loaded else (),
            uptime=now - self._began,
            models=len({entry.key.partition("@")[0] for entry in gateway.entries if entry.key}),
            prometheus=report_servers(loop.knowledge.get(), now),
            remarks=self._remark_all(precise=gateway.precise),
            writer=self.describe_writer(),
        )

    @property
    def _objects(self) -> Objects | None:
        """What the snapshot was made from: of newer ones nothing is known yet."""
        return self._loop.planned.get() or self._loop.loaded.get()

    @property
    def _answered(self) -> EnvoyRound:
        return self._loop.envoy_rounds.get() or EnvoyRound({}, {})

    def _remark_all(self, *, precise: bool) -> Remarks:
        remarks = self._remark(self._loop.doors)
        told = tell_dataplanes(self._answered) if precise else ()
        return replace(remarks, notices=(*remarks.notices, *told))

    def _gather(self, elsewhere: Mapping[str, Lack | None]) -> Evidence:
        loaded, resolved = self._objects, self._loop.resolved
        findings: dict[Ref, list[Finding]] = defaultdict(list)
        for finding in resolved.findings if resolved else ():
            findings[finding.ref].append(finding)
        return Evidence(
            rejections={r.ref: r for r in loaded.rejections} if loaded else {},
            findings={ref: tuple(found) for ref, found in findings.items()},
            envoys=self._loop.envoys.get(),
            published=self._loop.snapshots.get() is not None,
            elsewhere=elsewhere,
            without=frozenset(
                name for name, state in self._answered.states.items() if name in elsewhere and not state.dataplanes
            ),
        )

    def _node(
        self, node: ModelNode, own: Sequence[_Place], evidence: Evidence, traffic: Traffic, now: float
    ) -> ObjectReport:
        ref = Ref("ModelNode", node.metadata.namespace, node.metadata.name)
        verdicts = self._loop.weighed.verdicts
        facts = [v.facts[e.node] for p, _, e in own if (v := verdicts.get(p.name)) and e.node in v.facts]
        # One of several that is down takes nothing from the others.
        down = {e.node for pool, _, e in own if traffic.healthy.get((pool.name, e.node)) is False}
        servers = {e.node for _, _, e in own}
        return ObjectReport(
            kind="ModelNode",
            namespace=ref.namespace,
            name=ref.name,
            conditions=judge_node(
                ref,
                evidence,
                _names(own),
                facts,
                asked=any(self._loop.is_asked(server) for server in servers),
                healthy=not down or bool(servers - down),
                rivals=() if own else self._find_rivals(node),
            ),
            endpoints=tuple(
                _endpoint(pool, e, verdicts.get(pool.name), self._loop.weighed, traffic, now) for pool, _, e in own
            ),
            **_identify(ref, evidence, node.metadata),
        )

    def _find_rivals(self, node: ModelNode) -> tuple[str, ...]:
        """The policies that speak for requests for its models."""
        resolved = self._loop.resolved
        models = {model.name for model in node.spec.models}
        entries = resolved.gateway.entries if resolved else ()
        asked = (entry for entry in entries if entry.key.partition("@")[0] in models)
        return tuple(sorted({rule.policy for entry in asked for rule in entry.rules if rule.policy is not None}))


def _names(places: Iterable[_Place]) -> set[str]:
    """What of xDS stands for these endpoints: a refusal of any of it concerns the node."""
    names: set[str] = set()
    for _, part, endpoint in places:
        names.add(name_cluster(part.name))
        if part.credential is not None:
            names.add(name_credential(part.credential, part.format))
        if endpoint.tls is not None:
            names.add(name_authorities(endpoint.tls.ca))
    return names


def _find_places(gateway: ir.Gateway) -> Mapping[str, Sequence[_Place]]:
    places: dict[str, list[_Place]] = defaultdict(list)
    for pool in gateway.pools:
        for part in pool.parts:
            for endpoint in part.endpoints:
                places[endpoint.model_node].append((pool, part, endpoint))
    return places


def _policy(policy: RoutePolicy, gateway: ir.Gateway, evidence: Evidence, traffic: Traffic) -> ObjectReport:
    ref = Ref("RoutePolicy", policy.metadata.namespace, policy.metadata.name)
    name = f"{ref.namespace}/{ref.name}"
    pools = {
        destination.pool
        for entry in gateway.entries
        for rule in entry.rules
        if rule.policy == name
        for branch in rule.branches
        for destination in branch.destinations
    }
    own = [pool for pool in gateway.pools if pool.name in pools]
    clusters = [name_cluster(part.name) for pool in own for part in pool.parts]
    servers = [traffic.healthy.get((pool.name, endpoint.node)) for pool in own for endpoint in pool.endpoints]
    up = any(healthy is not False for healthy in servers)
    return ObjectReport(
        ref.kind,
        ref.namespace,
        ref.name,
        judge_policy(ref, evidence, clusters, len(servers), up=up, precise=policy.spec.balance.precise),
        pools=tuple(sorted(pools)),
        **_identify(ref, evidence, policy.metadata),
    )


class _Identity(TypedDict):
    generation: int
    uid: str


def _identify(ref: Ref, evidence: Evidence, metadata: Metadata | None = None) -> _Identity:
    """Which form of the object the conditions speak of: the invalid one, where its last valid form is held."""
    known = evidence.rejections.get(ref) or metadata
    return {"generation": known.generation, "uid": known.uid} if known else {"generation": 0, "uid": ""}


def _endpoint(
    pool: ir.Pool, endpoint: ir.Endpoint, verdict: Verdict | None, weighed: Weighed, traffic: Traffic, now: float
) -> EndpointReport:
    key = (pool.name, endpoint.node)
    facts = verdict.facts.get(endpoint.node) if verdict else None
    weights = dict(verdict.weights) if verdict else {}
    weight = weights.get(endpoint.node, 1)
    last = weighed.view.load(endpoint.node).last if facts and facts.fresh else None
    sent = traffic.sent.get(pool.name, 0)
    score = facts.score if facts else None
    return EndpointReport(
        pool=pool.name,
        address=print_address(endpoint.address, endpoint.port),
        score=round(score.value, 1) if score else None,
        parts=tuple(
            SignalReport(p.signal, p.value, p.share, p.points, p.source, p.age, p.full)
            for p in (score.parts if score else ())
        ),
        weight=weight,
        weight_share=100.0 * weight / max(1, sum(weights.values())),
        requests=traffic.total.get(key),
        request_share=100.0 * traffic.recent.get(key, 0) / sent if sent else None,
        inflight=traffic.active.get(key) if traffic.active is not None else None,
        waiting=last.waiting if last else None,
        running=last.running if last else None,
        kv=last.kv if last else None,
        age=weighed.view.load(endpoint.node).age(now),
        healthy=traffic.healthy.get(key),
        reason=facts.reason if facts else "",
        tier=endpoint.tier,
        name=endpoint.node[len(endpoint.model_node) + 1 :],
        factors=FactorsReport(facts.capacity / facts.trimmed, facts.trimmed, facts.u, facts.s) if facts else None,
        down=traffic.down.get(key),
        error=facts.error if facts else None,
    )


def _pools(gateway: ir.Gateway, weighed: Weighed, now: float) -> tuple[PoolReport, ...]:
    reports = []
    for pool in gateway.pools:
        verdict = weighed.verdicts.get(pool.name)
        guard = verdict.guard_until if verdict else None
        reports.append(
            PoolReport(
                name=pool.name,
                profile=pool.balance.profile,
                equal=verdict.equal if verdict else True,
                load=verdict.pool_load if verdict else None,
                guard=guard - now if guard and guard > now else None,
                nodes=tuple(endpoint.node for endpoint in pool.endpoints),
                pushes=weighed.pushes.get(pool.name, 0),
                serves=pool.serves[:MOST_SERVED],
            )
        )
    return tuple(reports)
