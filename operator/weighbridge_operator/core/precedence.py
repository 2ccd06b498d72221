"""Which RoutePolicy speaks for a request: the most specific one.

An exact model before a prefix (the longer first) before none, then more headers, then the older object, then the name.
"""

from __future__ import annotations

from collections.abc import Iterable

from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.core.ir import Kind


def rank_policies(policies: Iterable[RoutePolicy], model: str, kind: Kind) -> tuple[RoutePolicy, ...]:
    """The policies that speak for requests of `kind` for `model`, the most specific first."""
    fitting = [
        (specificity, policy)
        for policy in policies
        if (specificity := _specificity(policy, model)) is not None and _speaks_for_type(policy, kind)
    ]
    return tuple(policy for _, policy in sorted(fitting, key=lambda pair: (_negated(pair[0]), _tiebreak(pair[1]))))


def rank_defaults(policies: Iterable[RoutePolicy], kind: Kind) -> tuple[RoutePolicy, ...]:
    """The policies that name a model for requests of `kind` that name none, the most specific first."""
    naming = (p for p in policies if p.spec.default_model is not None and _speaks_for_type(p, kind))
    return tuple(sorted(naming, key=lambda p: (-len(p.spec.match.headers), _tiebreak(p))))


def _speaks_for_type(policy: RoutePolicy, kind: Kind) -> bool:
    return not policy.spec.match.types or kind.type in policy.spec.match.types


def _specificity(policy: RoutePolicy, model: str) -> tuple[int, int, int] | None:
    match = policy.spec.match
    if not match.models:
        return (0, 0, len(match.headers))
    best: tuple[int, int] | None = None
    for pattern in match.models:
        if pattern.endswith("*"):
            found = (1, len(pattern)) if model.startswith(pattern[:-1]) else None
        else:
            found = (2, 0) if pattern == model else None
        if found is not None and (best is None or found > best):
            best = found
    return None if best is None else (*best, len(match.headers))


def find_seed(policies: Iterable[RoutePolicy]) -> str:
    """What an API server drew for the oldest policy that lets nodes be named: every replica knows it, and no caller.

    Empty where none is from an API server.
    """
    drawn = [policy for policy in policies if policy.spec.balance.precise and policy.metadata.uid]
    return min(drawn, key=_tiebreak).metadata.uid if drawn else ""


def _negated(specificity: tuple[int, int, int]) -> tuple[int, int, int]:
    exactness, length, headers = specificity
    return (-exactness, -length, -headers)


def _tiebreak(policy: RoutePolicy) -> tuple[bool, str, str, str]:
    made = policy.metadata.creation_timestamp
    return (not made, made, policy.metadata.namespace, policy.metadata.name)
