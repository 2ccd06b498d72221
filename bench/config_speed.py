"""What the control plane's own work costs: a change of objects, and a tick that weighs every pool anew.

Run `python bench/config_speed.py [--nodes 1000] [--rounds 5]`. Milliseconds of CPU of this process, medians; nothing is
sent anywhere. The load differs in every round, so that every weight is worked out from new numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

from weighbridge_api.modelnode import ModelNode
from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core.ir import Gateway
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.core.tick import Weighed, weigh_pools
from weighbridge_operator.state import DesiredState, LoadRound
from weighbridge_operator.xds.memo import Memo
from weighbridge_operator.xds.translate import Entrance, assign_weights, translate

T = TypeVar("T")
PERIOD = 2.0  # seconds between two ticks


@dataclass
class Clock:
    """CPU milliseconds by what was done."""

    spent: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, what: str, act: Callable[[], T]) -> T:
        """Does it and notes what it cost."""
        began = time.process_time()
        result = act()
        self.spent.setdefault(what, []).append((time.process_time() - began) * 1000)
        return result


def make_nodes(count: int, models: int) -> tuple[ModelNode, ...]:
    """Nodes of unlike room; each serves one of the models, in turn."""
    return tuple(
        ModelNode.model_validate(
            {
                "apiVersion": "weighbridge.dev/v1alpha1",
                "kind": "ModelNode",
                "metadata": {"name": f"node-{number:05}", "namespace": "default"},
                "spec": {
                    "engine": "vllm",
                    "address": {"host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "port": 8000},
                    "models": [{"name": f"model-{number % models:04}"}],
                    "capacity": 1 << number // models % 3,
                },
            }
        )
        for number in range(count)
    )


def make_round(gateway: Gateway, at: float, random: Random) -> LoadRound:
    """Numbers of every node as one round of asking brings them."""
    samples, inflight = {}, {}
    for pool in gateway.pools:
        for endpoint in pool.endpoints:
            own = random.randrange(40)
            others = random.choice((0, 0, 0, 30))
            inflight[(pool.name, endpoint.node)] = own
            samples[endpoint.node] = LoadSample(
                endpoint.node,
                at,
                running=float(own + others),
                waiting=float(random.randrange(4)),
                kv=random.random(),
                generated_tokens=at * random.uniform(500, 1000),
                room_tokens=40_000.0,
            )
    return LoadRound(at, samples, inflight)


def change_one(nodes: tuple[ModelNode, ...], gateway: Gateway, weighed: Weighed, memo: Memo) -> None:
    """What follows when one node is told another base path."""
    spec = nodes[0].spec
    address = spec.address.model_copy(update={"path": "/v2"}) if spec.address else None
    changed = nodes[0].model_copy(update={"spec": spec.model_copy(update={"address": address})})
    after = resolve(DesiredState((changed, *nodes[1:])), Scope()).gateway
    weights = weigh_pools(after, weighed, None, 1.0, gateway).weights
    translate(after, weights, {}, Entrance(), memo=memo)


def run(clock: Clock, count: int, models: int, rounds: int) -> None:
    """All the work of a change of objects, and of a tick, several times."""
    for seed in range(rounds):
        random = Random(seed)
        nodes = clock.measure("read objects (checked values to models)", partial(make_nodes, count, models))
        gateway = clock.measure("resolve", partial(resolve, DesiredState(nodes), Scope())).gateway
        weighed = weigh_pools(gateway, Weighed(), make_round(gateway, 0.0, random), 0.0)
        memo = Memo()
        everything = partial(translate, gateway, weighed.weights, {}, Entrance(), memo=memo)
        snapshot = clock.measure("first: translate everything", everything)
        clock.measure("change of one node: all of it", partial(change_one, nodes, gateway, weighed, memo))
        for number in range(1, 4):
            now = number * PERIOD
            load = make_round(gateway, now, random)
            weighed = clock.measure("tick: weigh every pool", partial(weigh_pools, gateway, weighed, load, now))
            clock.measure("tick: assign every weight", partial(assign_weights, snapshot, gateway, weighed.weights))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--models", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw results")
    given = parser.parse_args()
    clocks = {models: Clock() for models in given.models}
    for models, clock in clocks.items():
        run(clock, given.nodes, models, given.rounds)
    print(f"{given.nodes:,} nodes; milliseconds of CPU, medians of {given.rounds} rounds\n")
    print(f"{'':42}" + "".join(f"{f'{models:,} models':>14}" for models in clocks))
    for what in next(iter(clocks.values())).spent:
        cells = (statistics.median(clock.spent[what]) for clock in clocks.values())
        print(f"{what:42}" + "".join(f"{cell:14.0f}" for cell in cells))
    if given.json is not None:
        given.json.write_text(json.dumps({models: clock.spent for models, clock in clocks.items()}, indent=1))


if __name__ == "__main__":
    main()
