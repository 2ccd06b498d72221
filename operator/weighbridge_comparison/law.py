"""The product's law as a controller in virtual time: it is fed as the operator's loop feeds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from weighbridge_api.modelnode import Engine
from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.engines import HABITS
from weighbridge_operator.core.load import LoadView, fold, keep
from weighbridge_operator.core.memory import PoolMemory
from weighbridge_operator.core.score import PROFILES
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound
from weighbridge_simulator.observation import Observation
from weighbridge_simulator.scenario import FleetNode


@dataclass(slots=True)
class Law:
    """Decides weights over the nodes of a fleet by a profile, and keeps every verdict with its moment."""

    fleet: Sequence[FleetNode]
    profile: ir.Profile = "llm"
    view: LoadView = field(default_factory=LoadView)
    memory: PoolMemory | None = None
    verdicts: list[tuple[float, Verdict]] = field(default_factory=list)

    def tick(self, now: float, seen: Observation, /) -> Sequence[int]:
        """A weight for each node; 1024 for one that is no member yet."""
        samples = {spell_node(i): self._sample(i, seen) for i in seen.members}
        counts = None
        if seen.inflight is not None:
            counts = {("pool", spell_node(i)): seen.inflight[i] for i in seen.members}
        self.view = keep(fold(self.view, LoadRound(seen.at, samples, counts)), samples)
        self.memory, verdict = weigh(self._pool(seen.members), self.memory, self.view, now)
        self.verdicts.append((now, verdict))
        return [verdict.weights.get(spell_node(i), 1024) for i in range(len(self.fleet))]

    def _pool(self, members: Sequence[int]) -> ir.Pool:
        endpoints = []
        for i in members:
            node = self.fleet[i]
            engine: Engine = "vllm" if node.prints else "openai"
            endpoints.append(make_endpoint(spell_node(i), node.capacity, node.engine.sequences, engine))
        return make_pool(endpoints, self.profile)

    def _sample(self, index: int, seen: Observation) -> LoadSample:
        report, node = seen.reports[index], spell_node(index)
        if report is None:
            return LoadSample(node, seen.at, error="connection refused")
        if not self.fleet[index].prints:
            return LoadSample(node, report.at, cpu=report.cpu, memory=report.memory)
        return LoadSample(
            node=node,
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


def spell_node(index: int) -> str:
    """The name of a fleet's node, as the core has it."""
    return f"default/node-{index}"


def make_endpoint(
    name: str, capacity: float | None = None, concurrency: int | None = 64, engine: Engine = "vllm"
) -> ir.Endpoint:
    """A node as the plan has it."""
    return ir.Endpoint(
        node=name,
        model_node=name,
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


def make_pool(endpoints: Sequence[ir.Endpoint], profile: ir.Profile = "llm", custom: bool = False) -> ir.Pool:
    """A pool of these nodes that balances by a profile; `custom`: by weights of the user's own."""
    data = PROFILES[profile]
    balance = ir.Balance(profile, data.weights, data.queue_maximum, custom)
    return ir.Pool("pool", (ir.Part("part", tuple(endpoints), None, None),), balance)
