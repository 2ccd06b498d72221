"""The law as a simulated controller, and runs that several tests look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from weighbridge_api.modelnode import Engine
from weighbridge_operator.core import ir
from weighbridge_operator.core.engines import HABITS
from weighbridge_operator.core.load import LoadView, fold, keep
from weighbridge_operator.core.memory import PoolMemory
from weighbridge_operator.core.score import PROFILES
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound, LoadSample
from weighbridge_simulator import rivals
from weighbridge_simulator.des import simulate
from weighbridge_simulator.gateway import Policy
from weighbridge_simulator.observation import Controller, Observation
from weighbridge_simulator.outcome import Outcome
from weighbridge_simulator.scenario import FleetNode, Scenario


def endpoint(
    node: str, capacity: float | None = None, concurrency: int | None = 64, engine: Engine = "vllm"
) -> ir.Endpoint:
    return ir.Endpoint(
        node=node,
        model_node=node,
        engine=engine,
        address="10.0.0.1",
        port=8000,
        hostname=None,
        base_path="/v1",
        served=(),
        tls=None,
        tier="standard",
        capacity=capacity,
        concurrency=concurrency,
        publishes_room="roomTokens" in HABITS[engine].publishes,
    )


def pool(endpoints: Sequence[ir.Endpoint], profile: ir.Profile = "llm", custom: bool = False) -> ir.Pool:
    data = PROFILES[profile]
    balance = ir.Balance(profile, data.weights, data.queue_maximum, custom)
    return ir.Pool("pool", (ir.Part("part", tuple(endpoints), None, None),), balance)


@dataclass
class Law:
    """Feeds `weigh` as the operator's loop does."""

    fleet: Sequence[FleetNode]
    profile: ir.Profile = "llm"
    view: LoadView = field(default_factory=LoadView)
    memory: PoolMemory | None = None
    verdicts: list[tuple[float, Verdict]] = field(default_factory=list)

    def tick(self, now: float, seen: Observation, /) -> Sequence[int]:
        samples = {name(i): _sample(i, seen) for i in seen.members}
        counts = None if seen.inflight is None else {("pool", name(i)): seen.inflight[i] for i in seen.members}
        self.view = keep(fold(self.view, LoadRound(seen.at, samples, counts)), samples)
        endpoints = [endpoint(name(i), self.fleet[i].capacity, self.fleet[i].engine.sequences) for i in seen.members]
        self.memory, verdict = weigh(pool(endpoints, self.profile), self.memory, self.view, now)
        self.verdicts.append((now, verdict))
        return [verdict.weights.get(name(i), 1024) for i in range(len(self.fleet))]


def name(index: int) -> str:
    return f"default/node-{index}"


def _sample(index: int, seen: Observation) -> LoadSample:
    report = seen.reports[index]
    if report is None:
        return LoadSample(name(index), seen.at, error="connection refused")
    return LoadSample(
        node=name(index),
        at=report.at,
        waiting=report.waiting,
        running=report.running,
        kv=report.kv,
        cpu=report.cpu,
        memory=report.memory,
        generated_tokens=report.generated_tokens,
        prompt_tokens=report.prompt_tokens,
        room_tokens=report.room_tokens,
    )


@dataclass
class Ran:
    outcome: Outcome
    law: Law


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def run() -> Run:
    """run(scenario, mechanism, seed): each is simulated once, however many tests ask."""
    done: dict[tuple[Scenario, str, int], Ran] = {}

    def ask(scenario: Scenario, mechanism: str = "law", seed: int = 1) -> Ran:
        key = (scenario, mechanism, seed)
        if key not in done:
            law = Law(scenario.fleet, "classic" if mechanism.startswith("classic") else "llm")
            done[key] = Ran(simulate(scenario, *_mechanism(mechanism, law), seed), law)
        return done[key]

    return ask


def _mechanism(mechanism: str, law: Law) -> tuple[Policy, Controller | None]:
    known: dict[str, tuple[Policy, Controller | None]] = {
        "law": (Policy(choices=5), law),
        "classic": (Policy(choices=5), law),
        "lr": (Policy(choices=2), None),
        "lr5": (Policy(choices=5), None),
        "rr": (Policy("round robin"), None),
        "lowest score": (Policy("weighted random"), rivals.LowestScore(rivals.llm)),
        "lowest classic score": (Policy("weighted random"), rivals.LowestScore(rivals.classic)),
        "100 - classic score": (Policy("weighted random"), rivals.HundredMinusScore(rivals.classic)),
    }
    return known[mechanism]


@pytest.fixture(scope="session")
def make_endpoint() -> Callable[..., ir.Endpoint]:
    return endpoint


@pytest.fixture(scope="session")
def make_pool() -> Callable[..., ir.Pool]:
    return pool
