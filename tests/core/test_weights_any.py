"""What holds of weights for any input whatever."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.steady import A, B, C, Maker, Pools
from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.load import LoadView, fold, keep
from weighbridge_operator.core.memory import dump, restore
from weighbridge_operator.core.verdict import Verdict
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound

NUMBER = st.one_of(
    st.none(),
    st.floats(0, 100),
    st.sampled_from([math.nan, math.inf, -1.0, 0.0, 1e308, 1e-300]),
)
SAMPLE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("waiting", "running", "kv", "cpu", "memory", "generated_tokens", "room_tokens"), NUMBER)
)
TICK = st.tuples(
    st.floats(0.0, 30.0),
    st.dictionaries(st.sampled_from((A, B, C)), st.tuples(st.floats(-30.0, 5.0), SAMPLE)),
    st.one_of(st.none(), st.dictionaries(st.sampled_from((A, B, C)), st.integers(0, 200))),
    st.frozensets(st.sampled_from((A, B, C)), min_size=1),
)
CAPACITIES = st.fixed_dictionaries({n: st.one_of(st.none(), st.floats(0.001, 1000)) for n in (A, B, C)})


def play(
    ticks: Sequence[tuple[float, dict[str, tuple[float, dict[str, float]]], dict[str, int] | None, frozenset[str]]],
    pool_of: Callable[[frozenset[str]], ir.Pool],
    turn: bool = False,
    saved: bool = False,
) -> list[Verdict]:
    view, memory, now, verdicts = LoadView(), None, 100.0, []
    for wait, samples, counts, nodes in ticks:
        now += wait
        found = {n: LoadSample(n, now + off, **numbers) for n, (off, numbers) in samples.items()}
        inflight = None if counts is None else {("pool", n): v for n, v in counts.items()}
        if turn:
            found = dict(reversed(found.items()))
            inflight = None if inflight is None else dict(reversed(inflight.items()))
        view = keep(fold(view, LoadRound(now, found, inflight)), nodes)
        memory, verdict = weigh(pool_of(nodes), memory, view, now)
        verdicts.append(verdict)
        if saved:
            memory = restore(json.loads(json.dumps(dump(memory))), now)
    return verdicts


@pytest.mark.parametrize("profile", ["llm", "classic"])
@settings(max_examples=40)
@given(ticks=st.lists(TICK, min_size=1, max_size=15), capacities=CAPACITIES)
def test_any_input_whatever_gives_weights_that_envoy_takes(
    profile: ir.Profile,
    ticks: list[tuple[float, dict[str, tuple[float, dict[str, float]]], dict[str, int] | None, frozenset[str]]],
    capacities: dict[str, float | None],
    make_endpoint: Maker,
    make_pool: Pools,
) -> None:
    def pool_of(nodes: frozenset[str], turn: bool = False) -> ir.Pool:
        listed = [make_endpoint(n, capacity=capacities[n]) for n in sorted(nodes, reverse=turn)]
        pool = make_pool(listed, profile)
        parts = tuple(ir.Part(f"part-{i}", (e,), None, None) for i, e in enumerate(listed))
        return replace(pool, parts=parts) if turn else pool

    verdicts = play(ticks, pool_of)
    for (_, _, _, nodes), verdict in zip(ticks, verdicts, strict=True):
        weights = verdict.weights
        assert set(weights) == nodes
        assert all(isinstance(w, int) and 1 <= w <= 65536 for w in weights.values())
        assert max(weights.values()) <= 64 * min(weights.values())
        assert verdict.equal is (len(set(weights.values())) < 2)
        assert all(facts.reason for facts in verdict.facts.values())
    assert play(ticks, pool_of) == verdicts
    assert play(ticks, lambda nodes: pool_of(nodes, turn=True), turn=True) == verdicts
    assert play(ticks, pool_of, saved=True) == verdicts


@pytest.mark.parametrize("profile", ["llm", "classic"])
@settings(max_examples=30)
@given(numbers=st.lists(st.tuples(SAMPLE, st.integers(0, 100)), min_size=1, max_size=40))
def test_nodes_that_are_all_alike_are_never_told_apart(
    profile: ir.Profile, numbers: list[tuple[dict[str, float], int]], make_endpoint: Maker, make_pool: Pools
) -> None:
    pool = make_pool([make_endpoint(n) for n in (A, B, C)], profile)
    ticks = [
        (2.0, dict.fromkeys((A, B, C), (0.0, s)), dict.fromkeys((A, B, C), own), frozenset((A, B, C)))
        for s, own in numbers
    ]
    for verdict in play(ticks, lambda _: pool):
        assert set(verdict.weights.values()) == {1024}
