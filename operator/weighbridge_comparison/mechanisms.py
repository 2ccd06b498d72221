"""The ways to spread requests, in virtual time, and one run of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from weighbridge_comparison.cells import Cell, make_cell
from weighbridge_comparison.fleet import OURS, Mechanism, Metrics
from weighbridge_comparison.law import Law
from weighbridge_comparison.naming import NATURAL_AGE, Picker, Precise
from weighbridge_comparison.setting import Setting, draw, stage
from weighbridge_simulator import rivals
from weighbridge_simulator.des import simulate
from weighbridge_simulator.gateway import Policy
from weighbridge_simulator.observation import Controller, Naming
from weighbridge_simulator.outcome import Outcome
from weighbridge_simulator.scenario import FleetNode, Scenario

CHOICES = 8  # as Envoy is told


def choose(mechanism: Mechanism, fleet: Sequence[FleetNode]) -> tuple[Policy, Controller | None]:
    """What the gateways do, and what decides their weights."""
    match mechanism:
        case "llm" | "classic" | "precise":
            return Policy(choices=CHOICES), Law(fleet, "classic" if mechanism == "classic" else "llm")
        case "LEAST_REQUEST":
            return Policy(choices=2), None
        case "round robin" | "picker":
            return Policy("round robin"), None
        case "lowest score":
            return Policy("weighted random"), rivals.LowestScore(rivals.classic)
        case "100 minus score":
            return Policy("weighted random"), rivals.HundredMinusScore(rivals.classic)
        case _:
            assert_never(mechanism)


def choose_naming(mechanism: Mechanism, scenario: Scenario, seed: int, metrics: Metrics) -> Naming | None:
    """What names a node for each request, over those weights."""
    if mechanism == "precise":
        late, told = max(0.0, scenario.age - NATURAL_AGE), scenario.seen in (None, scenario.gateways)
        return Precise(scenario.fleet, scenario.gateways, seed, metrics.pages, late, told, metrics.peers)
    return Picker(seed) if mechanism == "picker" else None


def run_cell(setting: Setting, mechanism: Mechanism, seed: int) -> Cell:
    """One run in virtual time."""
    scenario = stage(setting)
    policy, controller = choose(mechanism, scenario.fleet)
    naming = choose_naming(mechanism, scenario, seed, setting.fleet.metrics)
    outcome = simulate(scenario, policy, controller, seed, draw(setting, seed), naming)
    return make_cell(
        (setting.name, setting.load),
        mechanism,
        seed,
        setting.fleet,
        _rows(outcome),
        outcome.lost,
        # The first vector that is not equal is where a gateway starts from.
        pushes=len(outcome.pushes) if mechanism not in OURS else max(0, len(outcome.pushes) - _begins(outcome)),
        taken_back=outcome.turns.share,
        cached=outcome.cached,
        told=_told(controller) if isinstance(controller, Law) else None,
    )


def _begins(outcome: Outcome) -> bool:
    return bool(outcome.pushes) and outcome.pushes[0][0] <= 10.0


def _rows(outcome: Outcome) -> list[tuple[float, float, int]]:
    nodes = dict(outcome.picks)
    return [(at, wait, nodes.get(at, -1)) for at, wait in outcome.waits]


def _told(law: Law) -> float | None:
    named = (now for now, verdict in law.verdicts if any(fact.finding for fact in verdict.facts.values()))
    return next(named, None)
