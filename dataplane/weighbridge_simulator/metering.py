"""What the nodes of a fleet in virtual time print about themselves, true or not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan

from weighbridge_simulator.engine import Engine
from weighbridge_simulator.machine import use_cpu, use_memory
from weighbridge_simulator.observation import Report
from weighbridge_simulator.scenario import Lie, Scenario


class Meters:
    """Reads the engines of a scenario as their metrics would be read. Time never goes back."""

    def __init__(self, scenario: Scenario, engines: Sequence[Engine]) -> None:
        self._scenario, self._engines = scenario, engines
        self._held: dict[int, Report] = {}
        self._busy = [(0.0, 0.0)] * len(engines)
        self.hogs = [0.0] * len(engines)  # CPU that other programs use, 0..1

    def read(self, node: int, now: float) -> Report | None:
        """A node's page at this moment; None where it answers nothing."""
        truth = self._measure(node, now)
        if not self._scenario.fleet[node].prints:
            truth = replace(truth, waiting=0, running=0, kv=0.0, generated_tokens=0, prompt_tokens=0)
        s = self._scenario
        if any(o.node == node and o.start <= now < o.end for o in s.outages):
            return None
        lies = [lie for lie in s.lies if node in lie.nodes and lie.start <= now < lie.end]
        told = self._lie(lies[0], node, truth) if lies else truth
        for shown in s.printed:
            if told is not None and shown.node == node and shown.start <= now < shown.end:
                told = replace(
                    told,
                    cpu=told.cpu if shown.cpu is None else shown.cpu,
                    memory=told.memory if shown.memory is None else shown.memory,
                    waiting=told.waiting if shown.waiting is None else shown.waiting,
                )
        return told

    def _measure(self, node: int, now: float) -> Report:
        engine, spec = self._engines[node], self._scenario.fleet[node]
        sample = engine.sample(now)
        before, busy_before = self._busy[node]
        busy = (sample.busy_seconds - busy_before) / (now - before) if now > before else 0.0
        self._busy[node] = (now, sample.busy_seconds)
        filled = sample.running / spec.engine.sequences
        return Report(
            at=now,
            waiting=sample.waiting,
            running=sample.running,
            kv=sample.kv,
            cpu=min(1.0, use_cpu(busy, filled) + self.hogs[node]),
            memory=use_memory(sample.kv, spec.memory),
            generated_tokens=sample.generated_tokens,
            prompt_tokens=sample.prompt_tokens,
            room_tokens=spec.engine.kv_tokens if spec.published else None,
            cached_tokens=sample.cached_tokens,
            first_tokens=sample.ttft_count,
            ended=sample.ended + sample.cancelled,
        )

    def _lie(self, lie: Lie, node: int, truth: Report) -> Report | None:
        match lie.kind:
            case "silent":
                return None
            case "idle":
                return Report(truth.at, 0, 0, 0.0, 0.05, 0.3, 0, 0, truth.room_tokens)
            case "nan":
                return replace(truth, waiting=nan, running=nan, kv=nan)
            case "half":
                return replace(truth, waiting=truth.waiting // 2, running=truth.running // 2, kv=truth.kv / 2)
            case "frozen":
                return replace(self._held.setdefault(node, truth), at=truth.at)
