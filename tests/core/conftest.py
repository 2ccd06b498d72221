"""Runs in virtual time that several tests look at, and what the core's tests make their pools of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from weighbridge_comparison.law import Law, make_endpoint, make_pool
from weighbridge_comparison.mechanisms import CHOICES
from weighbridge_operator.core import ir
from weighbridge_simulator import rivals
from weighbridge_simulator.des import simulate
from weighbridge_simulator.gateway import Policy
from weighbridge_simulator.observation import Controller
from weighbridge_simulator.outcome import Outcome
from weighbridge_simulator.scenario import Scenario


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
        "law": (Policy(choices=CHOICES), law),
        "classic": (Policy(choices=CHOICES), law),
        "lr": (Policy(choices=2), None),
        "more choices": (Policy(choices=CHOICES), None),
        "rr": (Policy("round robin"), None),
        "lowest score": (Policy("weighted random"), rivals.LowestScore(rivals.llm)),
        "lowest classic score": (Policy("weighted random"), rivals.LowestScore(rivals.classic)),
        "100 - classic score": (Policy("weighted random"), rivals.HundredMinusScore(rivals.classic)),
    }
    return known[mechanism]


@pytest.fixture(scope="session", name="make_endpoint")
def endpoints() -> Callable[..., ir.Endpoint]:
    return make_endpoint


@pytest.fixture(scope="session", name="make_pool")
def pools() -> Callable[..., ir.Pool]:
    return make_pool
