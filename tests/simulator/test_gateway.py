"""The modelled picks: what Envoy's documentation says of them must come out."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from weighbridge_simulator.gateway import Gateway, Kind, Policy


def gateway(kind: Kind, nodes: int, choices: int = 2, workers: int = 2) -> Gateway:
    return Gateway(Policy(kind, choices), range(nodes), nodes, workers, Random(7))


def drain(gate: Gateway, picks: int) -> Counter[int]:
    return Counter(gate.pick() for _ in range(picks))


@pytest.mark.parametrize("kind", ["least request", "round robin", "random", "weighted random"])
def test_equal_weights_share_equally(kind: Kind) -> None:
    counts = drain(gateway(kind, 4), 8000)
    assert all(count == pytest.approx(2000, rel=0.08) for count in counts.values())


def test_least_request_avoids_the_busy_node_the_more_choices_it_has() -> None:
    shares = []
    for choices in (2, 5):
        gate = gateway("least request", 4, choices)
        gate.active[0] = 10
        shares.append(drain(gate, 8000)[0] / 8000)
    assert shares[0] == pytest.approx(1 / 16, abs=0.015)
    assert shares[1] < 0.005


def test_unequal_weights_are_a_schedule_of_weight_over_active_plus_one() -> None:
    gate = gateway("least request", 3)
    gate.push([4, 2, 1])
    idle = drain(gate, 7000)
    assert [idle[i] / 1000 for i in range(3)] == pytest.approx([4, 2, 1], rel=0.02)
    gate.active[0] = 3
    drain(gate, 100)
    busy = drain(gate, 4000)
    assert [busy[i] / 1000 for i in range(3)] == pytest.approx([1, 2, 1], rel=0.03)


def test_weights_that_become_equal_again_end_the_schedule() -> None:
    gate = gateway("least request", 2, 5)
    gate.push([9, 1])
    gate.push([5, 5])
    gate.active[0] = 5
    assert drain(gate, 1000)[0] < 100


def test_in_balance_requests_in_flight_go_with_the_root_of_the_weight() -> None:
    # Every request stays equally long: a in proportion to sqrt(weight * time).
    gate, inside, random = gateway("least request", 2), [], Random(3)
    gate.push([16, 1])
    held = [0, 0]
    for _ in range(20_000):
        node = gate.pick()
        gate.active[node] += 1
        inside.append(node)
        if len(inside) > 200:
            gone = inside.pop(random.randrange(len(inside)))
            gate.active[gone] -= 1
        held = [h + a for h, a in zip(held, gate.active, strict=True)]
    assert held[0] / held[1] == pytest.approx(4, rel=0.1)


def test_a_node_that_is_no_member_gets_nothing() -> None:
    gate = Gateway(Policy(), [0, 2], 3, 2, Random(1))
    assert drain(gate, 500)[1] == 0
    gate.join([0, 1, 2])
    assert drain(gate, 500)[1] > 100
