"""Ticks in which every node tells the same each time: what tests of the law are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, fold, keep
from weighbridge_operator.core.memory import PoolMemory
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound

Maker = Callable[..., ir.Endpoint]
Pools = Callable[..., ir.Pool]

A, B, C = "default/a", "default/b", "default/c"


class Steady:
    """Ticks of 2 s in which every node tells the same each time."""

    def __init__(self, pool: ir.Pool) -> None:
        self.pool = pool
        self.view = LoadView()
        self.memory: PoolMemory | None = None
        self.now = 0.0
        self.changes = 0

    def run(
        self,
        ticks: int,
        numbers: Mapping[str, Mapping[str, float]] | None = None,
        inflight: Mapping[str, int] | None = None,
        every: float = 2.0,
    ) -> Verdict:
        for _ in range(ticks):
            self.now += every
            samples = {n: self._sample(n, dict(v)) for n, v in (numbers or {}).items()}
            counts = None if inflight is None else {("pool", n): v for n, v in inflight.items()}
            nodes = [e.node for e in self.pool.endpoints]
            self.view = keep(fold(self.view, LoadRound(self.now, samples, counts)), nodes)
            self.memory, verdict = weigh(self.pool, self.memory, self.view, self.now)
            self.changes += verdict.changed
        return verdict

    def _sample(self, node: str, numbers: dict[str, float]) -> LoadSample:
        rate = numbers.pop("rate", 10.0)
        tokens = 1000 + rate * self.now * max(1.0, numbers.get("running", 0.0))
        return LoadSample(node, self.now, generated_tokens=tokens, **numbers)


BUSY = {"running": 10.0, "waiting": 0.0, "kv": 0.4}
FULL = {**BUSY, "kv": 0.8}


def same(nodes: Sequence[str], **numbers: float) -> dict[str, dict[str, float]]:
    return {n: {**BUSY, **numbers} for n in nodes}


def others_on(node: str) -> dict[str, dict[str, float]]:
    return {n: {**BUSY, "running": 25.0 if n == node else 10.0} for n in (A, B, C)}


TENS = {A: 10, B: 10, C: 10}
