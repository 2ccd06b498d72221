"""What is simulated, as plain data: a fleet, its traffic, what happens to it, and how truthful its numbers are.

Times are seconds from the start, rates requests a second. Load is arrivals over what the fleet can serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from weighbridge_simulator.machine import IDLE_MEMORY
from weighbridge_simulator.service import EngineSpec

LieKind = Literal["silent", "frozen", "idle", "nan", "half"]


@dataclass(frozen=True, slots=True)
class FleetNode:
    """One node: what it can do, how slow it is, and what its operator says of its room."""

    engine: EngineSpec
    slow: float = 1.0
    capacity: float | None = None
    published: bool = True  # whether its metrics tell its KV tokens
    prints: bool = True  # whether it has metrics of its engine at all, beside its machine's
    memory: float = IDLE_MEMORY  # share in use when idle
    joins: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Poisson arrivals of chats; lengths in tokens are lognormal. A burst multiplies the rate at each period's end."""

    rate: float
    prompt: float = 300.0
    prompt_sigma: float = 1.0
    answer: float = 150.0
    answer_sigma: float = 0.9
    several: float = 0.0  # share of the requests that ask for `sequences` answers at once (n > 1)
    sequences: int = 4
    burst: float = 1.0
    burst_period: float = 100.0
    burst_length: float = 10.0

    def factor(self, at: float) -> float:
        """The rate's multiplier at that moment."""
        return self.burst if at % self.burst_period > self.burst_period - self.burst_length else 1.0


@dataclass(frozen=True, slots=True)
class Others:
    """Requests that reach a node from elsewhere."""

    node: int
    start: float
    end: float
    rate: float


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A node works `factor` times slower, and other programs use `cpu` of its processor."""

    node: int
    start: float
    end: float
    factor: float
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Lie:
    """Untrue numbers: none, those of `start` with new times, those of an idle node, NaN, or half of the truth."""

    kind: LieKind
    nodes: tuple[int, ...]
    start: float = 60.0
    end: float = inf


@dataclass(frozen=True, slots=True)
class Outage:
    """A node is dead: what it had begun is cut, what it had not is answered by another; the gateways leave it out."""

    node: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Standstill:
    """A node takes requests and does nothing with them."""

    node: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Printed:
    """A node's numbers are these, whatever it does; None leaves one as it is."""

    node: int
    start: float
    end: float
    cpu: float | None = None
    memory: float | None = None
    waiting: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. `seen`: how many gateways' counts reach the controller; None says all, "none" that they are unknown."""

    fleet: tuple[FleetNode, ...]
    traffic: Traffic
    duration: float = 400.0
    warm: float = 60.0  # requests before it are not counted
    gateways: int = 2
    workers: int = 2
    tick: float = 2.0
    age: float = 3.0  # of the numbers that reach the controller
    timeout: float = 60.0  # without a first token
    others: tuple[Others, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    lies: tuple[Lie, ...] = ()
    outages: tuple[Outage, ...] = ()
    standstills: tuple[Standstill, ...] = ()
    printed: tuple[Printed, ...] = ()
    seen: int | Literal["none"] | None = None


#: Chats a second that saturate the unit node, with the default traffic.
UNIT_RATE = 5.93
ROOMS = (4, 4, 2, 2, 1, 1)


def fleet(rooms: tuple[float, ...], slow: tuple[float, ...] | None = None, given: bool = True) -> tuple[FleetNode, ...]:
    """Nodes of these sizes in compute and KV."""
    slows = slow or (1.0,) * len(rooms)
    return tuple(
        FleetNode(EngineSpec.unit(size), slow=x, capacity=size if given else None, published=given)
        for size, x in zip(rooms, slows, strict=True)
    )
