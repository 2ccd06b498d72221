"""One tick: what the last round of asking brought, folded in, and every pool weighed anew. State in, state out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, fold, keep
from weighbridge_operator.core.memory import PoolMemory
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound


@dataclass(frozen=True, slots=True)
class Weighed:
    """All that is remembered of load, and the newest verdict of each pool by name."""

    view: LoadView = field(default_factory=LoadView)
    memories: Mapping[str, PoolMemory] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    pushes: Mapping[str, int] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, Mapping[str, int]]:
        return {pool: verdict.weights for pool, verdict in self.verdicts.items()}

    @property
    def doubted(self) -> frozenset[tuple[str, str]]:
        """(pool, node) of those whose numbers contradict what is known to be there."""
        facts = ((pool, fact) for pool, verdict in self.verdicts.items() for fact in verdict.facts.values())
        return frozenset((pool, fact.node) for pool, fact in facts if fact.suspicion != "none")


#: By name of the pool: the pool and its memory as they were weighed, and what came of it.
Done = dict[str, tuple[ir.Pool, PoolMemory | None, PoolMemory, Verdict]]


def weigh_pools(
    gateway: ir.Gateway, before: Weighed, load: LoadRound | None, now: float, known: ir.Gateway | None = None
) -> Weighed:
    """Weighs every pool at `now` (seconds); pools and nodes that are gone are forgotten.

    Without load, pools that are the same in `known`, the gateway weighed last, stay as they were weighed.
    """
    return next(end for end in weigh_stepwise(gateway, before, load, now, known) if end is not None)


def weigh_stepwise(
    gateway: ir.Gateway,
    before: Weighed,
    load: LoadRound | None,
    now: float,
    known: ir.Gateway | None = None,
    done: Done | None = None,
) -> Iterator[Weighed | None]:
    """`weigh_pools`, resting (None) after each pool, so that something more urgent can be done; last the result.

    `done` takes what is weighed by this load and gives it back where it begins anew and the pool is the same.
    """
    same = {pool.name: pool for pool in known.pools} if known is not None and load is None else {}
    nodes = {endpoint.node for pool in gateway.pools for endpoint in pool.endpoints}
    view = keep(fold(before.view, load) if load else before.view, nodes)
    memories: dict[str, PoolMemory] = {}
    verdicts: dict[str, Verdict] = {}
    pushes: dict[str, int] = {}
    for pool in gateway.pools:
        last, held = before.verdicts.get(pool.name), before.memories.get(pool.name)
        found = done.get(pool.name) if done is not None else None
        if last is not None and same.get(pool.name) == pool:
            memory, verdict = before.memories[pool.name], last
        elif found is not None and found[1] is held and found[0] == pool:
            memory, verdict = found[2:]
        else:
            memory, verdict = weigh(pool, held, view, now)
            if done is not None:
                done[pool.name] = pool, held, memory, verdict
        memories[pool.name], verdicts[pool.name] = memory, verdict
        moved = last is not None and dict(last.weights) != dict(verdict.weights)
        pushes[pool.name] = before.pushes.get(pool.name, 0) + moved
        yield None
    yield Weighed(view, memories, verdicts, pushes)


def changed_pools(before: Weighed, after: Weighed) -> dict[str, Mapping[str, int]]:
    """The weights of the pools whose weights differ."""
    known = before.weights
    return {pool: weights for pool, weights in after.weights.items() if dict(known.get(pool, {})) != dict(weights)}
