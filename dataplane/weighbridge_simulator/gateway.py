"""How Envoy picks a node, modelled from its documentation and source, without Envoy.

Least request compares `choices` random nodes by requests in flight while all weights are exactly equal, and runs an
earliest-deadline-first schedule of weight/(active + 1) as soon as they are not. Every worker has a schedule of its own;
requests in flight are counted per process. A new weight vector rebuilds the schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import accumulate
from random import Random
from typing import Literal, assert_never

Kind = Literal["round robin", "random", "least request", "weighted random", "least filled"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A cluster's load-balancing policy. "least filled" knows every gateway's counts: an ideal, not in Envoy."""

    kind: Kind = "least request"
    choices: int = 2


class Schedule:
    """Earliest deadline first over weights that are read anew at every pick."""

    __slots__ = ("_entries", "_order", "_weight")

    def __init__(self, members: Sequence[int], weight: Callable[[int], float], skip: int) -> None:
        self._weight = weight
        weights = {i: weight(i) for i in members}
        total = sum(weights.values())
        # A rebuilt schedule starts as if `skip` picks had been made, so that many rebuilds do not all begin alike.
        done = {i: _floor(w, skip, total) for i, w in weights.items()}
        self._entries = [((done[i] + 1) / weights[i], order, i) for order, i in enumerate(members)]
        heapify(self._entries)
        self._order = len(members)
        for _ in range(skip - sum(done.values())):
            self.pick()

    def pick(self) -> int:
        """The next node; its entry returns with the weight it has now."""
        deadline, _, node = self._entries[0]
        heapreplace(self._entries, (deadline + 1.0 / self._weight(node), self._order, node))
        self._order += 1
        return node


def _floor(weight: float, picks: int, total: float) -> int:
    floor = int(weight * picks / total)
    return floor - 1 if floor > 0 and floor / weight >= picks / total else floor


class Gateway:
    """One Envoy process over a set of nodes, numbered from 0."""

    __slots__ = (
        "_cumulated",
        "_equal",
        "_members",
        "_next",
        "_policy",
        "_random",
        "_schedules",
        "_seeds",
        "_weights",
        "active",
    )

    def __init__(self, policy: Policy, members: Sequence[int], nodes: int, workers: int, random: Random) -> None:
        self.active = [0] * nodes
        self._policy = policy
        self._random = random
        self._members = list(members)
        self._weights = [1] * nodes
        self._seeds = [random.randrange(1 << 29) for _ in range(workers)]
        self._next = [random.randrange(len(self._members)) for _ in range(workers)]
        self._rebuild()

    def push(self, weights: Sequence[int]) -> None:
        """Take a new weight vector, as EDS brings it."""
        if list(weights) != self._weights:
            self._weights = list(weights)
            self._rebuild()

    def join(self, members: Sequence[int]) -> None:
        """Take another set of nodes."""
        self._members = list(members)
        self._rebuild()

    def pick(self) -> int:
        """The node for one request, on a worker drawn at random."""
        worker = int(self._random.random() * len(self._seeds))
        match self._policy.kind:
            case "least request":
                return self._compare() if self._equal else self._schedules[worker].pick()
            case "round robin":
                self._next[worker] = (self._next[worker] + 1) % len(self._members)
                return self._members[self._next[worker]]
            case "random":
                return self._members[int(self._random.random() * len(self._members))]
            case "weighted random":
                return self._draw()
            case "least filled":
                return min(
                    self._members, key=lambda i: ((self.active[i] + 1) / self._weights[i], self._random.random())
                )
            case _:
                assert_never(self._policy.kind)

    def _rebuild(self) -> None:
        weights = [self._weights[i] for i in self._members]
        self._equal = min(weights) == max(weights)
        self._cumulated = list(accumulate(weights))
        self._schedules: list[Schedule] = []
        if self._policy.kind == "least request" and not self._equal:
            self._schedules = [Schedule(self._members, self._effective, seed) for seed in self._seeds]

    def _effective(self, node: int) -> float:
        return self._weights[node] / (self.active[node] + 1)

    def _compare(self) -> int:
        members, active, draw = self._members, self.active, self._random.random
        count = len(members)
        best = members[int(draw() * count)]
        for _ in range(self._policy.choices - 1):
            other = members[int(draw() * count)]
            if active[other] < active[best]:
                best = other
        return best

    def _draw(self) -> int:
        x = self._random.random() * self._cumulated[-1]
        for node, edge in zip(self._members, self._cumulated, strict=True):
            if x < edge:
                return node
        return self._members[-1]
