"""Which requests go where: an entry for each kind and model, in it one rule for each policy that may speak for it.

Callers name a model, or one version of it as model@version. A request that names none takes the default of the most
specific policy that has one, else the only model that serves its type, else it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from weighbridge_api.conditions import RESOLVED_REFS
from weighbridge_api.routepolicy import RoutePolicy, RoutePolicySpec
from weighbridge_operator.core import ir
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.pools import Demand, Pools, is_named, select_nodes, select_servers
from weighbridge_operator.core.precedence import find_seed, rank_defaults, rank_policies
from weighbridge_operator.core.roster import Roster
from weighbridge_operator.state import Ref

_DEFAULTS = RoutePolicySpec()

#: Shares in percent, each with what is asked for, the preferred first.
_Split = tuple[tuple[float, tuple[Demand, ...]], ...]
_Draft = list[tuple[ir.Rule, _Split]]


def policy_id(policy: RoutePolicy) -> str:
    return f"{policy.metadata.namespace}/{policy.metadata.name}"


class Router:
    """Routes one resolved set of objects. `used`: each policy that fits any model, and who overruled it, if anyone."""

    def __init__(self, roster: Roster, policies: tuple[RoutePolicy, ...], home: str) -> None:
        self.findings: list[Finding] = []
        self.used: dict[str, str | None] = {}
        self._fallen: set[tuple[str, str]] = set()  # policies with fallbacks that serve requests of theirs
        self._lacking: list[tuple[RoutePolicy, str, ir.Kind]] = []  # and those that don't, for which kind
        self._policies, self._pools, self._home = policies, Pools(), home
        self._serving, self._offering = roster.servers_by, roster.offering_by
        self._offers, self._ready = roster.offers, roster.ready
        self._versions = {version for models in self._offers.values() for each in models.values() for version in each}

    def route(self) -> ir.Gateway:
        drafts: dict[tuple[ir.Kind, str], _Draft] = {}
        for kind, models in self._offers.items():
            for model, versions in models.items():
                drafts[kind, model] = self._draft(kind, model, "")
                for version in versions:
                    drafts[kind, f"{model}@{version}"] = self._draft(kind, model, version)
        pools, names = self._pools.settle()
        entries = [
            ir.Entry(kind, key, tuple(_finish(rule, split, names) for rule, split in draft))
            for (kind, key), draft in drafts.items()
        ]
        entries += self._defaults(entries)
        self._note_fallbacks()
        ordered = tuple(sorted(entries, key=lambda e: (e.kind, e.key)))
        return ir.Gateway(pools, ordered, tuple(self._offers), find_seed(self._policies))

    def _draft(self, kind: ir.Kind, model: str, version: str) -> _Draft:
        draft: _Draft = []
        winner: str | None = None
        for policy in rank_policies(self._policies, model, kind):
            name = policy_id(policy)
            if not self._speaks_for(policy, kind, model, version):
                continue
            if winner is not None:
                self.used.setdefault(name, winner)
                continue
            self.used[name] = None
            draft.append((_rule(policy), self._split(policy, kind, model, version)))
            if not policy.spec.match.headers:
                winner = name
        if winner is None:
            draft.append((_rule(None), self._split(None, kind, model, version)))
        return draft

    def _speaks_for(self, policy: RoutePolicy, kind: ir.Kind, model: str, version: str) -> bool:
        # A policy that names no models speaks for those that its nodes serve; one that names them means them, as far as
        # its namespace serves them: else it would take the requests for another namespace's.
        nodes = select_nodes(self._offering.get((kind, model), ()), Demand("", model, version, kind), None)
        if policy.spec.match.models:
            return any(node.metadata.namespace == policy.metadata.namespace for node in nodes)
        return any(is_named(node, policy) for node in nodes)

    def _name(self, policy: RoutePolicy) -> str:
        """How pools name it: short where it is of the gateway's own namespace."""
        return policy.metadata.name if policy.metadata.namespace == self._home else policy_id(policy)

    def _split(self, policy: RoutePolicy | None, kind: ir.Kind, model: str, version: str) -> _Split:
        rest = tuple(
            self._demand(None if fallback == model else self._plain_policy(fallback, kind), kind, fallback, "")
            for fallback in self._fallbacks(policy, kind)
        )
        shares = self._shares(policy, kind, model) if policy and not version else ()
        if not shares:
            return ((100.0, (self._demand(policy, kind, model, version), *rest)),)
        return tuple((share, (self._demand(policy, kind, model, v), *rest)) for v, share in shares)

    def _demand(self, policy: RoutePolicy | None, kind: ir.Kind, model: str, version: str) -> Demand:
        name = self._name(policy) if policy else ""
        demand = Demand(name, model, version, kind)
        self._pools.add(demand, select_servers(self._serving.get((kind, model), ()), demand, policy), policy)
        return demand

    def _plain_policy(self, model: str, kind: ir.Kind) -> RoutePolicy | None:
        ranked = rank_policies(self._policies, model, kind)
        return next((p for p in ranked if not p.spec.match.headers and self._speaks_for(p, kind, model, "")), None)

    def _fallbacks(self, policy: RoutePolicy | None, kind: ir.Kind) -> list[str]:
        found = []
        for fallback in policy.spec.fallback if policy else ():
            if policy is not None and fallback.model in self._offers.get(kind, {}):
                found.append(fallback.model)
                self._fallen.add((policy_id(policy), fallback.model))
            elif policy is not None and self._lacks(fallback.model, kind):
                self._lacking.append((policy, fallback.model, kind))
        return found

    def _note_fallbacks(self) -> None:
        """A policy that names no types means those that its fallback serves, which must be one of its own at least."""
        for policy, model, kind in self._lacking:
            if policy.spec.match.types or (policy_id(policy), model) not in self._fallen:
                message = f"spec.fallback: no node serves {model} for {kind} requests"
                self._note(policy, "FallbackNotServed", f"{message}; correct it, or add a node")

    def _shares(self, policy: RoutePolicy, kind: ir.Kind, model: str) -> tuple[tuple[str, float], ...]:
        """Versions with their shares; what a version that nobody serves would get goes to the others in proportion."""
        offered = self._offers[kind][model]
        ready = self._ready.get(kind, {}).get(model) or offered
        served = [(v.version, v.share) for v in policy.spec.versions if v.version in ready and v.share > 0]
        for version in policy.spec.versions:
            if version.version not in offered and version.version in self._versions:
                message = f"spec.versions: no node serves version {version.version} of {model}"
                self._note(policy, "VersionNotServed", f"{message}; correct it, or the nodes")
        total = sum(share for _, share in served)
        return tuple((version, 100.0 * share / total) for version, share in served)

    def _defaults(self, entries: list[ir.Entry]) -> Iterable[ir.Entry]:
        by_key = {(entry.kind, entry.key): entry for entry in entries}
        for kind, models in self._offers.items():
            rules: list[ir.Rule] = []
            for policy in rank_defaults(self._policies, kind):
                model = str(policy.spec.default_model)
                if model not in models:
                    # A policy that names no types means those that the model serves.
                    if policy.spec.match.types and self._lacks(model, kind):
                        message = f"spec.defaultModel: no node serves {model} for {kind} requests"
                        self._note(policy, "DefaultNotServed", f"{message}; correct it, or add a node")
                    continue
                rules += [_with_default(r, model, policy) for r in by_key[kind, model].rules]
                if not policy.spec.match.headers:
                    break
            else:
                if len(models) == 1:
                    only = next(iter(models))
                    rules += [_with_default(r, only, None) for r in by_key[kind, only].rules]
            yield ir.Entry(kind, "", tuple(rules))

    def _lacks(self, model: str, kind: ir.Kind) -> bool:
        """Whether the model is served for other types alone, in whatever API: a policy can't tell these apart."""
        types = {other.type for other, models in self._offers.items() if model in models}
        return bool(types) and kind.type not in types

    def _note(self, policy: RoutePolicy, reason: str, message: str) -> None:
        ref = Ref("RoutePolicy", policy.metadata.namespace, policy.metadata.name)
        finding = Finding(ref, RESOLVED_REFS, reason, message)
        if finding not in self.findings:
            self.findings.append(finding)


def _rule(policy: RoutePolicy | None) -> ir.Rule:
    spec = policy.spec if policy else _DEFAULTS
    return ir.Rule(
        policy=policy_id(policy) if policy else None,
        headers=tuple(sorted(spec.match.headers.items())),
        branches=(),
        retry=ir.Retry(spec.retry.attempts, spec.retry.budget),
        timeouts=ir.Timeouts(spec.timeouts.first_token, spec.timeouts.idle, spec.timeouts.total),
        precise=spec.balance.precise,
    )


def _finish(rule: ir.Rule, split: _Split, names: Mapping[Demand, str]) -> ir.Rule:
    branches = tuple(
        ir.Branch(share, tuple(dict.fromkeys(ir.Destination(names[d], _key(d)) for d in demands)))
        for share, demands in split
    )
    return replace(rule, branches=branches)


def _key(demand: Demand) -> str:
    return f"{demand.model}@{demand.version}" if demand.version else demand.model


def _with_default(rule: ir.Rule, model: str, policy: RoutePolicy | None) -> ir.Rule:
    own = dict(policy.spec.match.headers) if policy else {}
    headers = tuple(sorted({**own, **dict(rule.headers)}.items()))
    return replace(rule, headers=headers, default=model)
