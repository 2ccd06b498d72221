"""Gateways over a fleet in virtual time, event by event, with a slow controller that may push weights.

Arrivals, lengths and others' requests depend on the seed alone, never on what the gateways decide, so that two
mechanisms are compared on the same requests. The controller is injected and sees only what a real one would: each
node's numbers and the gateways' counts, some seconds old.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random

from weighbridge_simulator.conversations import name_turns
from weighbridge_simulator.engine import Engine
from weighbridge_simulator.gateway import Gateway, Policy
from weighbridge_simulator.metering import Meters
from weighbridge_simulator.observation import Controller, Naming, Observation
from weighbridge_simulator.outcome import GONE, Outcome
from weighbridge_simulator.scenario import Others, Outage, Scenario, Slowdown, Standstill, Traffic
from weighbridge_simulator.service import Job
from weighbridge_simulator.workload import Arrival


@dataclass(slots=True)
class _Placed:
    gateway: int
    node: int
    open: bool = True


def simulate(
    scenario: Scenario,
    policy: Policy,
    controller: Controller | None = None,
    seed: int = 1,
    arrivals: Sequence[Arrival] | None = None,
    naming: Naming | None = None,
) -> Outcome:
    """Run the scenario to its end. `arrivals`, in order of time, are sent instead of the scenario's traffic."""
    return _Run(scenario, policy, controller, seed, naming).run(arrivals)


class _Run:
    """The state of one run; agenda entries are (time, order, action)."""

    def __init__(
        self, scenario: Scenario, policy: Policy, controller: Controller | None, seed: int, naming: Naming | None
    ) -> None:
        self.scenario, self.controller, self.seed, self.naming = scenario, controller, seed, naming
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
        self.meters = Meters(scenario, self.engines)
        self.pages = Meters(scenario, self.engines)  # as whoever names nodes reads them, at moments of its own
        self.dead: set[int] = set()
        self.live = self.members
        self.weights = (1,) * len(self.engines)
        self.outcome = Outcome()

    def run(self, arrivals: Sequence[Arrival] | None) -> Outcome:
        s = self.scenario
        if arrivals is None:
            self._stream("ours", s.traffic, 0.0, math.inf, self._arrive)
        else:
            self._send(arrivals, 0)
        for number, source in enumerate(s.others):
            self._others(source, number)
        for slowdown in s.slowdowns:
            self._span(slowdown.start, slowdown.end, self._slow(slowdown, True), self._slow(slowdown, False))
        for still in s.standstills:
            self._span(still.start, still.end, self._freeze(still, True), self._freeze(still, False))
        for outage in s.outages:
            self._span(outage.start, outage.end, self._die(outage), partial(self._revive, outage))
        for i, node in enumerate(s.fleet):
            if node.joins > 0:
                self._at(node.joins, partial(self._join, i))
        if self.controller is not None:
            self._at(s.tick * math.ceil(s.age / s.tick) - s.age, self._snapshot)
            self._at(s.tick, self._tick)
        if self.naming is not None:
            self._look(0.0)
        self._loop(s.duration)
        rows = [(at, job.tag.node if isinstance(job.tag, _Placed) else None, job) for at, job in self.jobs]
        self.outcome.close(rows, len(self.engines), s.duration, s.timeout)
        return self.outcome

    def _loop(self, end: float) -> None:
        due, agenda, open_jobs, timeout = self.due, self.agenda, self.open, self.scenario.timeout
        while True:
            node_at = min(due)
            while open_jobs and (open_jobs[0].first < math.inf or open_jobs[0].place in GONE):
                open_jobs.popleft()
            late_at = open_jobs[0].submitted + timeout if open_jobs else math.inf
            now = min(node_at, late_at, agenda[0][0] if agenda else math.inf)
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

    def _span(self, start: float, end: float, begin: Callable[[float], None], cease: Callable[[float], None]) -> None:
        self._at(start, begin)
        self._at(end, cease)

    def _serve(self, node: int, now: float) -> None:
        engine = self.engines[node]
        for job, kind, _ in engine.advance(now):
            if kind != "first":
                self._leave(job)
        self.due[node] = engine.next_event()

    def _give_up(self, job: Job, now: float) -> None:
        assert isinstance(job.tag, _Placed)
        node = job.tag.node
        if self.engines[node].cancel(job, now):
            self._leave(job)
            self.due[node] = self.engines[node].next_event()

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

    def _send(self, arrivals: Sequence[Arrival], number: int) -> None:
        def come(now: float) -> None:
            self._send(arrivals, number + 1)
            arrival = arrivals[number]
            blocks = name_turns(arrival)
            self._arrive(now, Job(arrival.prompt, arrival.answer, arrival.n, blocks=blocks, session=arrival.session))

        if number < len(arrivals):
            self._at(arrivals[number].at, come)

    def _arrive(self, now: float, job: Job) -> None:
        if now > self.scenario.warm:
            self.jobs.append((now, job))
        self._place(now, job)
        self.open.append(job)

    def _place(self, now: float, job: Job) -> None:
        if not self.live:
            job.place = "refused"
            return
        which = int(self.picking.random() * len(self.gateways))
        gateway = self.gateways[which]
        named = self.naming.name(which, job, now) if self.naming is not None else None
        node = gateway.pick() if named is None else named
        gateway.active[node] += 1
        job.tag = _Placed(which, node)
        self._submit(node, job, now)

    def _submit(self, node: int, job: Job, now: float) -> None:
        engine = self.engines[node]
        if self.due[node] <= now:
            self._serve(node, now)
        if node in self.dead or not engine.fits(job):
            job.place = "refused"
            self._leave(job)
            return
        engine.submit(job, now)
        self.due[node] = engine.next_event()

    def _others(self, source: Others, number: int) -> None:
        def arrive(now: float, job: Job) -> None:
            self._submit(source.node, job, now)

        self._stream(f"others {number}", Traffic(rate=source.rate), source.start, source.end, arrive)

    def _slow(self, slowdown: Slowdown, begins: bool) -> Callable[[float], None]:
        def change(now: float) -> None:
            node, base = slowdown.node, self.scenario.fleet[slowdown.node].slow
            self.engines[node].speed(base * slowdown.factor if begins else base, now)
            self.meters.hogs[node] = slowdown.cpu if begins else 0.0
            self.due[node] = self.engines[node].next_event()

        return change

    def _freeze(self, still: Standstill, begins: bool) -> Callable[[float], None]:
        def change(now: float) -> None:
            self.engines[still.node].freeze(begins, now)
            self.due[still.node] = self.engines[still.node].next_event()

        return change

    def _die(self, outage: Outage) -> Callable[[float], None]:
        def die(now: float) -> None:
            self._serve(outage.node, now)
            self.dead.add(outage.node)
            self._settle_members()
            engine = self.engines[outage.node]
            for job in list(engine.jobs()):
                engine.cancel(job, now)
                self._leave(job)
                if job.first == math.inf and isinstance(job.tag, _Placed):
                    job.place, job.end = "new", math.inf
                    self._place(now, job)
            self.due[outage.node] = engine.next_event()

        return die

    def _revive(self, outage: Outage, _: float) -> None:
        self.dead.discard(outage.node)
        self._settle_members()

    def _join(self, node: int, _: float) -> None:
        self.members = sorted([*self.members, node])
        self._settle_members()

    def _settle_members(self) -> None:
        self.live = [node for node in self.members if node not in self.dead]
        for gateway in self.gateways:
            if self.live:
                gateway.join(self.live)

    def _snapshot(self, now: float) -> None:
        self._at(now + self.scenario.tick, self._snapshot)
        self.reports.append(self._observe(self.meters, now))

    def _observe(self, meters: Meters, now: float) -> Observation:
        reports = tuple(meters.read(i, now) if i in self.members else None for i in range(len(self.engines)))
        return Observation(now, tuple(self.members), reports, self._inflight())

    def _look(self, now: float) -> None:
        assert self.naming is not None
        self._at(now + self.naming.every, self._look)
        active = [gateway.active for gateway in self.gateways]
        self.naming.look(now, self._observe(self.pages, now), active, self.live)

    def _inflight(self) -> tuple[int, ...] | None:
        seen = self.scenario.seen
        if seen == "none":
            return None
        return tuple(sum(g.active[i] for g in self.gateways[:seen]) for i in range(len(self.engines)))

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
        equal, self.weights = len(set(weights)) == 1 and len(set(self.weights)) == 1, weights
        if not equal:
            self.outcome.pushes.append((now, weights))
            self.outcome.turns.note(now, weights)
        for gateway in self.gateways:
            gateway.push(weights)


def _job(sizes: Random, traffic: Traffic) -> Job:
    prompt = sizes.lognormvariate(math.log(traffic.prompt), traffic.prompt_sigma)
    answer = sizes.lognormvariate(math.log(traffic.answer), traffic.answer_sigma)
    sequences = traffic.sequences if sizes.random() < traffic.several else 1
    return Job(min(8000, max(8, int(prompt))), min(2000, max(1, int(answer))), sequences)
