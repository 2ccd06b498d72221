"""The law on numbers as a Prometheus brings them: in steps of its interval, 15 to 30 s old, and at last none at all."""

from __future__ import annotations

import pytest

from support.steady import A, B, C, Maker, Pools
from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, fold
from weighbridge_operator.core.memory import PoolMemory
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound

INFLIGHT = {A: 10, B: 10, C: 10}
TICK = 2.0


class Slow:
    """Ticks of 2 s on numbers that are `lag` s old when they come, every `interval` s, until `ends`."""

    def __init__(self, pool: ir.Pool, interval: float, lag: float) -> None:
        self.pool, self.interval, self.lag = pool, interval, lag
        self.view, self.memory, self.now = LoadView(), None, 0.0
        self.ends = float("inf")
        self.hog: str | None = None
        self.memory: PoolMemory | None
        self.verdict: Verdict | None = None

    def run(self, seconds: float) -> Verdict:
        end = self.now + seconds
        while self.now < end:
            self.now += TICK
            at = min(self.ends, self.now - self.lag) // self.interval * self.interval
            samples = {n: self._sample(n, at) for n in (A, B, C)} if at > 0 else {}
            counts = {("pool", n): count for n, count in INFLIGHT.items()}
            self.view = fold(self.view, LoadRound(self.now, samples, counts))
            self.memory, self.verdict = weigh(self.pool, self.memory, self.view, self.now)
        assert self.verdict is not None
        return self.verdict

    def _sample(self, node: str, at: float) -> LoadSample:
        cpu = 0.95 if node == self.hog else 0.4
        return LoadSample(node, at, source="Prometheus p:9090", cpu=cpu)


@pytest.fixture
def classic(make_endpoint: Maker, make_pool: Pools) -> ir.Pool:
    return make_pool([make_endpoint(n, engine="openai", concurrency=None) for n in (A, B, C)], "classic")


@pytest.mark.parametrize(("interval", "lag"), [(5.0, 2.0), (15.0, 2.0), (30.0, 2.0)])
def test_a_hog_is_seen_held_to_and_forgotten(classic: ir.Pool, interval: float, lag: float) -> None:
    slow = Slow(classic, interval, lag)
    assert slow.run(120).equal
    slow.hog = B
    told = slow.run(interval + lag + 30)
    assert told.weights[B] < told.weights[A] == told.weights[C]
    kept = slow.run(60)
    assert kept.weights[B] < kept.weights[A], "between two numbers nothing is taken back"
    slow.hog = None
    assert slow.run(interval + lag + 60).equal


@pytest.mark.parametrize("interval", [5.0, 15.0, 30.0])
def test_when_the_source_ends_what_it_said_fades_and_room_stays(classic: ir.Pool, interval: float) -> None:
    slow = Slow(classic, interval, 2.0)
    slow.run(120)
    slow.hog = B
    assert not slow.run(interval + 60).equal
    slow.ends = slow.now
    oldest = max(20.0, 2.5 * interval)
    held = slow.run(min(18.0, oldest - interval))
    assert held.weights[B] < held.weights[A]
    assert all(facts.fresh for facts in held.facts.values())
    gone = slow.run(oldest + 10 + 120)
    assert gone.equal
    assert not any(facts.fresh for facts in gone.facts.values())
