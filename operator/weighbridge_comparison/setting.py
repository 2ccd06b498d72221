"""One fleet at one load: which requests come, and what the fleet is in virtual time.

A load is arrivals over what the nodes serve at the worst moment of the file. What a node serves of these requests is
measured on the service model itself, with a queue that never ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from weighbridge_comparison.fleet import Event, Fleet, Lengths, Node
from weighbridge_simulator.conversations import Sessions, draw_sessions
from weighbridge_simulator.engine import Engine
from weighbridge_simulator.scenario import (
    FleetNode,
    Lie,
    LieKind,
    Others,
    Outage,
    Printed,
    Scenario,
    Slowdown,
    Standstill,
    Traffic,
)
from weighbridge_simulator.service import EngineSpec, Job
from weighbridge_simulator.workload import Arrival, Sizes, draw_arrivals

_SATURATING = 4000  # requests
_SAMPLE = 200.0  # seconds of traffic by which sessions are judged
_LIES: dict[object, LieKind] = {"idle": "idle", "frozen": "frozen", "nan": "nan", "half": "half", "absent": "silent"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A fleet by the name of its file, at one of its loads; `trace` is what is replayed, at its own speed."""

    name: str
    fleet: Fleet
    load: float | None
    trace: tuple[Arrival, ...] = ()

    @property
    def title(self) -> str:
        """`uneven, load 0.8`."""
        return self.name if self.load is None else f"{self.name}, load {self.load:g}"

    @property
    def rate(self) -> float:
        """Requests a second, outside of bursts."""
        traffic = self.fleet.traffic
        if traffic.rate is not None:
            return traffic.rate
        if self.load is not None:
            return self.load * served(self.fleet, self.trace or sample_sessions(self.fleet))
        return _mean_rate(self.trace) * (traffic.trace.speed or 1.0 if traffic.trace else 1.0)

    @property
    def busiest(self) -> float:
        """Requests a second in a burst, where there are any."""
        burst = self.fleet.traffic.burst
        return self.rate * (burst.factor if burst else 1.0)

    @property
    def speed(self) -> float:
        """How many times as fast as recorded the trace is replayed."""
        return self.rate / _mean_rate(self.trace)


def list_settings(name: str, fleet: Fleet, trace: Sequence[Arrival] = ()) -> tuple[Setting, ...]:
    """A setting for each load of the fleet."""
    return tuple(Setting(name, fleet, load, tuple(trace)) for load in fleet.traffic.loads or (None,))


def draw(setting: Setting, seed: int) -> tuple[Arrival, ...]:
    """The requests of a run, the same for every mechanism. A trace begins at another place for each seed."""
    fleet, random = setting.fleet, Random(f"{seed} arrivals")
    traffic = fleet.traffic
    if setting.trace:
        return _replay(setting, random)
    sizes = _size(traffic.prompt, traffic.answer)
    rate, burst, several = setting.rate, traffic.burst, traffic.several
    if traffic.sessions is not None:
        drawn = iter(draw_sessions(rate, fleet.duration, sizes, Sessions(**traffic.sessions.model_dump()), random))
    elif burst is None:
        drawn = draw_arrivals(rate, fleet.duration, sizes, random)
    else:
        quiet = burst.every - burst.lasts
        drawn = draw_arrivals(
            lambda at: rate * (burst.factor if at % burst.every > quiet else 1.0), fleet.duration, sizes, random
        )
    if several is None:
        return tuple(drawn)
    many = Random(f"{seed} several")
    return tuple(replace(a, n=several.answers) if many.random() < several.share else a for a in drawn)


def _size(prompt: Lengths, answer: Lengths) -> Sizes:
    return Sizes(
        prompt.median,
        prompt.sigma,
        (prompt.least, prompt.most),
        answer.median,
        answer.sigma,
        (answer.least, answer.most),
    )


def sample_sessions(fleet: Fleet) -> tuple[Arrival, ...]:
    """Requests as the fleet's sessions make them, of which nothing is known but the sizes; none without sessions."""
    traffic = fleet.traffic
    if traffic.sessions is None:
        return ()
    sessions, random = Sessions(**traffic.sessions.model_dump()), Random("sample of sessions")
    drawn = draw_sessions(20.0, _SAMPLE, _size(traffic.prompt, traffic.answer), sessions, random)
    return tuple(replace(arrival, turns=(), session=None) for arrival in drawn)


def _replay(setting: Setting, random: Random) -> tuple[Arrival, ...]:
    trace, speed = setting.trace, setting.speed
    period = trace[-1].at + 1 / _mean_rate(trace)
    first = int(random.random() * len(trace))
    replayed: list[Arrival] = []
    for number in range(100 * len(trace)):
        which = first + number
        arrival = trace[which % len(trace)]
        at = (arrival.at + (which // len(trace)) * period - trace[first].at) / speed
        if at >= setting.fleet.duration:
            break
        replayed.append(replace(arrival, at=at))
    return tuple(replayed)


def _mean_rate(trace: Sequence[Arrival]) -> float:
    return (len(trace) - 1) / (trace[-1].at - trace[0].at)


def stage(setting: Setting) -> Scenario:
    """The fleet and its events in virtual time; the requests come from `draw`."""
    fleet = setting.fleet
    place = {node.name: number for number, node in enumerate(fleet.servers)}
    spans = [(event, place[name], event.until or math.inf) for event in fleet.events for name in event.nodes]
    seen = fleet.metrics.envoys_seen

    def pick(key: str) -> list[tuple[Event, int, float]]:
        return [span for span in spans if key in span[0].does]

    return Scenario(
        fleet=tuple(_stage_node(node) for node in fleet.servers),
        traffic=Traffic(setting.rate),
        duration=fleet.duration,
        warm=fleet.count_from,
        gateways=fleet.envoys,
        age=fleet.metrics.age,
        seen=seen,
        others=tuple(Others(node, e.at, end, float(e.does["flood"])) for e, node, end in pick("flood")),
        slowdowns=tuple(Slowdown(node, e.at, end, float(e.does["slow"])) for e, node, end in pick("slow")),
        lies=tuple(
            Lie(_LIES[e.does["lie"]], (node,), e.at, end) for e, node, end in pick("lie") if e.does["lie"] in _LIES
        ),
        outages=tuple(Outage(node, e.at, end) for e, node, end in pick("down") if e.does["down"]),
        standstills=tuple(Standstill(node, e.at, end) for e, node, end in pick("freeze") if e.does["freeze"] != "off"),
        printed=tuple(
            Printed(node, e.at, end, e.does.get("cpu"), e.does.get("memory"), e.does.get("queue"))
            for e, node, end in spans
            if {"cpu", "memory", "queue"} & set(e.does)
        ),
    )


def list_omissions(fleet: Fleet) -> tuple[str, ...]:
    """What of the file virtual time leaves out, in words."""
    failing = [name for event in fleet.events if "fail" in event.does for name in event.nodes]
    return tuple(f"that {name} fails requests" for name in dict.fromkeys(failing))


def _stage_node(node: Node) -> FleetNode:
    plain = node.engine == "plain"
    return FleetNode(
        shape(node), slow=node.slow, capacity=node.capacity, published=not plain, prints=not plain, joins=node.joins
    )


def shape(node: Node) -> EngineSpec:
    """What the node can do: `size` units, but for what it says of its compute."""
    unit, own = EngineSpec.unit(node.size), node.compute
    told = own.model_dump(exclude_none=True, by_alias=False)
    names = {"step": "a", "per_sequence": "b"}
    return replace(unit, **{names.get(name, name): value for name, value in told.items()})


def served(fleet: Fleet, trace: Sequence[Arrival] = ()) -> float:
    """Requests a second that the fleet serves when the least of it is left, others' requests taken off."""
    moments = {0.0, *(event.at for event in fleet.events), *(event.until or 0.0 for event in fleet.events)}
    least = min(sum(_serves(fleet, node, at, trace) for node in fleet.servers) for at in moments)
    return max(least, 0.01)


def strengths(fleet: Fleet) -> tuple[float, ...]:
    """What each node serves of chats, in unit nodes."""
    unit = saturate(EngineSpec.unit(), *_CHAT, ())
    return tuple(saturate(shape(node), *_CHAT, ()) / node.slow / unit for node in fleet.servers)


def _serves(fleet: Fleet, node: Node, at: float, trace: Sequence[Arrival]) -> float:
    does: dict[str, object] = {}
    for event in fleet.events:
        if node.name in event.nodes and event.at <= at < (event.until or math.inf):
            does |= event.does
    if does.get("down") or does.get("freeze", "off") not in ("off", False) or does.get("fail"):
        return 0.0
    traffic, engine = fleet.traffic, shape(node)
    slow = node.slow * float(str(does.get("slow", 1.0)))
    several = 1.0 if traffic.several is None else 1.0 + traffic.several.share * (traffic.several.answers - 1)
    whole = saturate(engine, traffic.prompt, traffic.answer, tuple(trace[:: max(1, len(trace) // 2000)])) / several
    # Others send chats, whatever we send.
    chats = saturate(engine, *_CHAT, ()) / slow
    return max(0.0, whole / slow * (1.0 - float(str(does.get("flood", 0.0))) / chats))


_CHAT = (Lengths(median=300, sigma=1.0, least=8, most=8000), Lengths(median=150, sigma=0.9, least=4, most=2000))


@cache
def saturate(engine: EngineSpec, prompt: Lengths, answer: Lengths, sample: tuple[Arrival, ...]) -> float:
    """Requests a second that a node of this kind ends while it always has a queue; of `sample`, if there is one."""
    node, random, ended = Engine(engine), Random("saturation"), 0
    sizes = _size(prompt, answer)
    now, began, drawn = 0.0, 0.0, 0
    while ended < _SATURATING and drawn < 100 * _SATURATING:
        while node.sample(now).waiting < 8 and drawn < 100 * _SATURATING:
            arrival = random.choice(sample) if sample else Arrival(now, *sizes.draw(random))
            job = Job(arrival.prompt, arrival.answer)
            drawn += 1
            if node.fits(job):
                node.submit(job, now)
        now = node.next_event()
        ended += sum(kind == "end" for _, kind, _ in node.advance(now))
        if ended >= _SATURATING // 5 and not began:
            began = now
    return max(0.001, (ended - _SATURATING // 5) / (now - began)) if math.isfinite(now) and now > began else 0.001
