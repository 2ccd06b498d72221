"""How far a score must lie above the pool's line to count, where equal nodes stray from it by chance."""

from __future__ import annotations

import math
from collections.abc import Callable

from weighbridge_operator.core.classic import settle
from weighbridge_operator.core.memory import Line, NodeMemory
from weighbridge_operator.core.score import Part, Score

NODES = "abcdef"
TICK = 2.0
Points = Callable[[str, float], float]


def run(points: Points, seconds: float) -> dict[str, list[float]]:
    """The part of its share that each node of an equal pool was left, tick by tick."""
    nodes = {n: NodeMemory(heard=0.0, inflight=20.0) for n in NODES}
    line, left = Line(), {n: list[float]() for n in NODES}
    for tick in range(1, round(seconds / TICK)):
        now = tick * TICK
        scores = {n: score(points(n, now)) for n in NODES}
        said = settle(nodes, scores, dict.fromkeys(NODES, 1.0), line, elapsed=TICK, now=now)
        nodes, line = dict(said.nodes), said.line
        for n in NODES:
            left[n].append(said.shares[n])
    return left


def score(points: float) -> Score:
    return Score(points, (Part("cpu", points / 40, points / 40, points, "scrape", 1.0, 1.0),))


def calm(_: str, now: float) -> float:
    return 40 + 0.5 * math.sin(now)


def straying(name: str, now: float) -> float:
    """Waves of a minute and a half, 7 points each way, each node in its own time."""
    return 40 + 7 * math.sin(2 * math.pi * (now / 90 + NODES.index(name) / len(NODES)))


def with_hog(points: Points, more: float, start: float, end: float) -> Points:
    return lambda name, now: points(name, now) + (more if name == "c" and start <= now < end else 0.0)


def test_points_that_are_chance_in_one_pool_count_in_another() -> None:
    """13 points above the line for half a minute, after three minutes of each."""
    assert min(run(with_hog(calm, 13, 200, 230), 240)["c"]) < 1
    assert min(run(with_hog(straying, 4, 200, 230), 240)["c"][90:]) == 1


def test_equal_nodes_whose_scores_stray_lose_nothing() -> None:
    left = run(straying, 600)
    assert all(share == 1 for n in NODES for share in left[n][60:])


def test_a_hog_is_felt_within_half_a_minute_however_scores_stray() -> None:
    for points in (calm, straying):
        left = run(with_hog(points, 40, 300, 400), 460)["c"]
        assert min(left[round(300 / TICK) : round(330 / TICK)]) < 0.75
        assert left[-1] == 1


def test_a_node_that_lies_above_the_others_for_long_is_no_chance() -> None:
    """A weaker machine that nobody declared: its own level, however far, does not make the pool's a noisy one."""
    left = run(lambda name, now: calm(name, now) + (12 if name == "c" else 0), 300)
    assert left["c"][-1] < 1
    assert all(left[n][-1] == 1 for n in NODES if n != "c")
