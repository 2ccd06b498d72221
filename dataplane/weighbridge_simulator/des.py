"""Gateways over a fleet in virtual time, event by event, with a slow controller that may push weights.

Arrivals, lengths and others' requests depend on the seed alone, never on what the gateways decide, so that two
mechanisms are compared on the same requests. The controller is injected and sees only what a real one would: each
node's numbers and the gateways' counts, some seconds old.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from random import Random

from weighbridge_simulator.engine import Engine
from weighbridge_simulator.gateway import Gateway, Policy
from weighbridge_simulator.observation import Controller, Observation, Report
from weighbridge_simulator.outcome import Outcome
from weighbridge_simulator.scenario import Lie, Others, Scenario, Slowdown, Traffic
from weighbridge_simulator.service import Job


@dataclass(slots=True)
class _Placed:
    gateway: int
    node: int
    open: bool = True


def simulate(scenario: Scenario, policy: Policy, controller: Controller | None = None, seed: int = 1) -> Outcome:
    """Run the scenario to its end."""
    return _Run(scenario, policy, controller, seed).run()


class _Run:
    """The state of one run; agenda entries are (time, order, action)."""

    def __init__(self, scenario: Scenario, policy: Policy, controller: Controller | None, seed: int) -> None:
        self.scenario, self.controller, self.seed = scenario, controller, seed
        self.engines = [Engine(node.engine, 0.0, node.slow) for node in scenario.fleet]
        self.due = [math.inf] * len(self.engines)
        self.members = [i for i, node in enumerate(scenario.fleet) if node.joins <= 0]
        self.picking = Random(f"{seed} picks")
        self.gateways = [
            Gateway(policy, self.members, len(self.engines), scenario.workers, self.picking)
            for _ in range(scenario.gateways)
        ]
        self.agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self.order = count()
        self.open: deque[Job] = deque()
        self.jobs: list[tuple[float, Job]] = []
        self.reports: deque[Observation] = deque()
        self.held: dict[int, Report] = {}
        self.busy = [(0.0, 0.0)] * len(self.engines)
        self.hogs = [0.0] * len(self.engines)
        self.weights = (1,) * len(self.engines)
        self.turned = [(0, -math.inf)] * len(self.engines)
        self.outcome = Outcome()

    def run(self) -> Outcome:
        s = self.scenario
        self._stream("ours", s.traffic, 0.0, math.inf, self._arrive)
        for number, source in enumerate(s.others):
            self._others(source, number)
        for slowdown in s.slowdowns:
            self._at(slowdown.start, self._slow(slowdown, True))
            self._at(slowdown.end, self._slow(slowdown, False))
        for i, node in enumerate(s.fleet):
            if node.joins > 0:
                self._at(node.joins, self._join(i))
        if self.controller is not None:
            self._at(s.tick * math.ceil(s.age / s.tick) - s.age, self._snapshot)
            self._at(s.tick, self._tick)
        self._loop(s.duration)
        return self._close()

    def _loop(self, end: float) -> None:
        due, agenda, open_jobs, timeout = self.due, self.agenda, self.open, self.scenario.timeout
        while True:
            node_at = min(due)
            while open_jobs and (open_jobs[0].first < math.inf or open_jobs[0].place == "cancelled"):
                open_jobs.popleft()
            late_at = open_jobs[0].submitted + timeout if open_jobs else math.inf
            now = min(node_at, late_at, agenda[0][0])
            if now > end:
                return
            if now == node_at:
                self._serve(due.index(node_at), now)
            elif now == late_at:
                self._give_up(open_jobs.popleft(), now)
            else:
                heappop(agenda)[2](now)

    def _at(self, at: float, action: Callable[[float], None]) -> None:
        heappush(self.agenda, (at, next(self.order), action))

    def _serve(self, node: int, now: float) -> None:
        engine = self.engines[node]
        for job, kind, _ in engine.advance(now):
            if kind != "first":
                self._leave(job)
        self.due[node] = engine.next_event()

    def _give_up(self, job: Job, now: float) -> None:
        placed = _placed(job)
        if self.engines[placed.node].cancel(job, now):
            self._leave(job)
            self.due[placed.node] = self.engines[placed.node].next_event()

    def _leave(self, job: Job) -> None:
        if isinstance(job.tag, _Placed) and job.tag.open:
            job.tag.open = False
            self.gateways[job.tag.gateway].active[job.tag.node] -= 1

    def _stream(
        self, name: str, traffic: Traffic, start: float, end: float, arrive: Callable[[float, Job], None]
    ) -> None:
        """Poisson arrivals with random numbers of their own, thinned outside bursts."""
        times, sizes = Random(f"{self.seed} {name} times"), Random(f"{self.seed} {name} sizes")
        peak = traffic.rate * max(1.0, traffic.burst)

        def come(now: float) -> None:
            if now >= end:
                return
            self._at(now + times.expovariate(peak), come)
            if peak == traffic.rate or times.random() * peak < traffic.rate * traffic.factor(now):
                arrive(now, _job(sizes, traffic))

        self._at(start + times.expovariate(peak), come)

    def _arrive(self, now: float, job: Job) -> None:
        which = int(self.picking.random() * len(self.gateways))
        gateway = self.gateways[which]
        node = gateway.pick()
        gateway.active[node] += 1
        job.tag = _Placed(which, node)
        if now > self.scenario.warm:
            self.jobs.append((now, job))
        self._submit(node, job, now)
        self.open.append(job)

    def _submit(self, node: int, job: Job, now: float) -> None:
        engine = self.engines[node]
        if self.due[node] <= now:
            self._serve(node, now)
        engine.submit(job, now)
        self.due[node] = engine.next_event()

    def _others(self, source: Others, number: int) -> None:
        def arrive(now: float, job: Job) -> None:
            self._submit(source.node, job, now)

        self._stream(f"others {number}", Traffic(rate=source.rate), source.start, source.end, arrive)

    def _slow(self, slowdown: Slowdown, begins: bool) -> Callable[[float], None]:
        def change(now: float) -> None:
            node = slowdown.node
            base = self.scenario.fleet[node].slow
            self.engines[node].speed(base * slowdown.factor if begins else base, now)
            self.hogs[node] = slowdown.cpu if begins else 0.0
            self.due[node] = self.engines[node].next_event()

        return change

    def _join(self, node: int) -> Callable[[float], None]:
        def join(_: float) -> None:
            self.members = sorted([*self.members, node])
            for gateway in self.gateways:
                gateway.join(self.members)

        return join

    def _snapshot(self, now: float) -> None:
        self._at(now + self.scenario.tick, self._snapshot)
        reports = tuple(self._report(i, now) if i in self.members else None for i in range(len(self.engines)))
        self.reports.append(Observation(now, tuple(self.members), reports, self._inflight()))

    def _inflight(self) -> tuple[int, ...] | None:
        seen = self.scenario.seen
        if seen == "none":
            return None
        counted = self.gateways[:seen] if seen is not None else self.gateways
        return tuple(sum(g.active[i] for g in counted) for i in range(len(self.engines)))

    def _report(self, node: int, now: float) -> Report | None:
        engine, spec = self.engines[node], self.scenario.fleet[node]
        sample = engine.sample(now)
        before, busy_before = self.busy[node]
        busy = (sample.busy_seconds - busy_before) / (now - before) if now > before else 0.0
        self.busy[node] = (now, sample.busy_seconds)
        filled = sample.running / spec.engine.sequences
        truth = Report(
            at=now,
            waiting=sample.waiting,
            running=sample.running,
            kv=sample.kv,
            cpu=min(1.0, 0.05 + min(1.0, busy) * (0.15 + 0.6 * filled) + self.hogs[node]),
            memory=min(1.0, spec.memory + 0.4 * sample.kv),
            generated_tokens=sample.generated_tokens,
            prompt_tokens=sample.prompt_tokens,
            room_tokens=spec.engine.kv_tokens if spec.published else None,
        )
        lies = [lie for lie in self.scenario.lies if node in lie.nodes and now >= lie.start]
        return self._lie(lies[0], node, truth) if lies else truth

    def _lie(self, lie: Lie, node: int, truth: Report) -> Report | None:
        match lie.kind:
            case "silent":
                return None
            case "idle":
                return Report(truth.at, 0, 0, 0.0, 0.05, 0.3, 0, 0, truth.room_tokens)
            case "frozen":
                held = self.held.setdefault(node, truth)
                return Report(
                    truth.at, held.waiting, held.running, held.kv, held.cpu, held.memory,
                    held.generated_tokens, held.prompt_tokens, held.room_tokens,
                )  # fmt: skip

    def _tick(self, now: float) -> None:
        self._at(now + self.scenario.tick, self._tick)
        newest = None
        while self.reports and self.reports[0].at <= now - self.scenario.age + 1e-9:
            newest = self.reports.popleft()
        if newest is None or self.controller is None:
            return
        weights = self.controller.tick(now, newest)
        if weights is not None and tuple(weights) != self.weights:
            self._push(tuple(weights), now)

    def _push(self, weights: tuple[int, ...], now: float) -> None:
        for i, (new, old) in enumerate(zip(weights, self.weights, strict=True)):
            direction = (new > old) - (new < old)
            if direction and self.outcome.pushes:
                last, since = self.turned[i]
                self.outcome.changes += 1
                self.outcome.taken_back += last == -direction and now - since < 60
                self.turned[i] = (direction, now)
        equal = len(set(weights)) == 1 and len(set(self.weights)) == 1
        self.weights = weights
        if not equal:
            self.outcome.pushes.append((now, weights))
        for gateway in self.gateways:
            gateway.push(weights)

    def _close(self) -> Outcome:
        end, timeout = self.scenario.duration, self.scenario.timeout
        counts = [0] * len(self.engines)
        for at, job in self.jobs:
            node = _placed(job).node
            counts[node] += 1
            self.outcome.picks.append((at, node))
            if job.first <= end:
                self.outcome.waits.append((at, job.first - at))
            elif job.place == "cancelled" or end - at > 5:
                # A request that still waits at the end counts with what it has waited so far.
                self.outcome.waits.append((at, timeout if job.place == "cancelled" else end - at))
                self.outcome.lost += job.place == "cancelled" or end - at > 20
        self.outcome.shares = [n / max(1, sum(counts)) for n in counts]
        return self.outcome


def _placed(job: Job) -> _Placed:
    if not isinstance(job.tag, _Placed):
        raise TypeError("only our own requests are placed")
    return job.tag


def _job(sizes: Random, traffic: Traffic) -> Job:
    prompt = sizes.lognormvariate(math.log(traffic.prompt), traffic.prompt_sigma)
    answer = sizes.lognormvariate(math.log(traffic.answer), traffic.answer_sigma)
    sequences = traffic.sequences if sizes.random() < traffic.several else 1
    return Job(min(8000, max(8, int(prompt))), min(2000, max(1, int(answer))), sequences)
