"""What a simulated controller sees, and what it is: nodes' numbers in, weights out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from weighbridge_simulator.service import Job


@dataclass(frozen=True, slots=True)
class Report:
    """One node's numbers as its metrics give them."""

    at: float
    waiting: float
    running: float
    kv: float
    cpu: float
    memory: float
    generated_tokens: float
    prompt_tokens: float
    room_tokens: float | None
    cached_tokens: float = 0.0  # of the prompts', not read anew
    first_tokens: float = 0.0  # requests that got one
    ended: float = 0.0  # requests, given up or answered


@dataclass(frozen=True, slots=True)
class Observation:
    """What the controller gets: a report or None per node, None in whole for one that is no member yet."""

    at: float
    members: tuple[int, ...]
    reports: tuple[Report | None, ...]
    inflight: tuple[int, ...] | None


class Naming(Protocol):
    """Whatever names a node for each request, over the weights."""

    every: float  # seconds between two looks

    def look(self, now: float, seen: Observation, active: Sequence[Sequence[int]], live: Sequence[int], /) -> None:
        """What nodes print, and what each gateway has in flight at each node; `live` are the healthy ones."""

    def name(self, gateway: int, job: Job, now: float, /) -> int | None:
        """The node for a request at this gateway, or None to leave it to the weights."""


class Controller(Protocol):
    """Whatever decides weights."""

    def tick(self, now: float, seen: Observation, /) -> Sequence[int] | None:
        """A weight per node of the fleet, or None to leave them."""
