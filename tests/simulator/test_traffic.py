"""The load generator and its workload: arrivals, sizes, traces, and what it records of each answer."""

import asyncio
import math
import statistics
import time
from itertools import pairwise
from random import Random

import pytest

from weighbridge_simulator.control import Control
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.records import Records, percentile
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival, Sizes, draw_arrivals, read_trace


def make(fleet: Fleet, question: Question | None = None, **options: object) -> Traffic:
    targets = [f"http://127.0.0.1:{node.port}" for node in fleet.nodes.values()]
    return Traffic(targets, question or Question(), time.monotonic, Random(1), **options)


def burst(count: int, answer: int = 5) -> list[Arrival]:
    return [Arrival(0.0, 20, answer)] * count


def test_sizes_have_the_stated_means() -> None:
    random, sizes = Random(1), Sizes()
    drawn = [sizes.draw(random) for _ in range(40_000)]
    assert statistics.fmean(prompt for prompt, _ in drawn) == pytest.approx(495, rel=0.04)
    assert statistics.fmean(answer for _, answer in drawn) == pytest.approx(225, rel=0.04)


def test_arrivals_are_poisson_and_the_seed_decides() -> None:
    arrivals = list(draw_arrivals(50.0, 100.0, Sizes(), Random(7)))
    assert arrivals == list(draw_arrivals(50.0, 100.0, Sizes(), Random(7)))
    assert len(arrivals) == pytest.approx(5000, rel=0.05)
    gaps = [after.at - before.at for before, after in pairwise(arrivals)]
    assert statistics.stdev(gaps) / statistics.fmean(gaps) == pytest.approx(1.0, abs=0.05)


def test_a_rate_may_change_with_time() -> None:
    arrivals = list(draw_arrivals(lambda at: 90.0 if at >= 50 else 10.0, 100.0, Sizes(), Random(7)))
    early = sum(arrival.at < 50 for arrival in arrivals)
    assert early == pytest.approx(500, rel=0.15)
    assert len(arrivals) - early == pytest.approx(4500, rel=0.06)
    assert list(draw_arrivals(0.0, 10.0, Sizes(), Random(7))) == []


def test_a_trace_is_replayed_from_its_first_row_at_any_speed() -> None:
    lines = [
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 18:15:46.6805900,374,44",
        "2023-11-16 18:15:50.6805900,396,109",
    ]
    assert list(read_trace(lines, speed=4.0)) == [Arrival(0.0, 374, 44), Arrival(1.0, 396, 109)]
    with pytest.raises(ValueError, match="line 4 of the trace"):
        list(read_trace([*lines, "yesterday,1,1"]))


async def test_every_request_is_recorded_with_its_node_and_times() -> None:
    specs = [NodeSpec(name=name, control=Control(slow=0.1)) for name in ("a", "b")]
    async with Fleet(specs) as fleet:
        records = await make(fleet).run(list(draw_arrivals(200.0, 0.5, Sizes(answer_median=10), Random(3))))
    total = len(records)
    assert total > 50
    assert records.outcomes() == {"ok": total}
    assert set(records.status) == {200}
    assert records.shares()["a"] + records.shares()["b"] == pytest.approx(1.0)
    assert all(records.start[row] <= records.first[row] <= records.end[row] for row in records.rows())
    assert len(records.times_to_first()) == len(records.durations()) == total


async def test_the_first_data_is_timed_and_not_the_head_that_comes_before_it() -> None:
    async with Fleet([NodeSpec(every=0, control=Control(slow=1.0))]) as fleet:
        records = await make(fleet).run([Arrival(0.0, 2000, 2)])
    assert records.times_to_first()[0] > 2000 / 512 * (0.012 + 512 / 10_000) * 0.9


@pytest.mark.parametrize(
    ("fail", "outcome", "status"), [(503, "refused", 503), ("reset", "lost", 0), ("die", "cut", 200)]
)
async def test_failures_are_told_apart(fail: object, outcome: str, status: int) -> None:
    async with Fleet([NodeSpec()]) as fleet:
        fleet.nodes["node"].control({"fail": fail})
        records = await make(fleet).run(burst(5))
    assert records.outcomes() == {outcome: 5}
    assert set(records.status) == {status}


@pytest.mark.parametrize("spelled", [False, True])
async def test_sizes_reach_the_node_in_headers_or_spelled_in_the_body(spelled: bool) -> None:
    async with Fleet([NodeSpec(every=0)]) as fleet:
        (node,) = fleet.nodes.values()
        arrivals = [Arrival(0.0, 300, 7), Arrival(0.0, 50, 5, n=3)]
        await make(fleet, Question(spelled=spelled), timeout=20.0).run(arrivals)
        state = node.node.state(time.monotonic())
    assert (state["prompt_tokens"], state["generated_tokens"]) == (350, 7 + 3 * 5)


async def test_nobody_listening_is_lost() -> None:
    async with Fleet([NodeSpec()]) as fleet:
        traffic = make(fleet)
    records = await traffic.run(burst(3))
    assert records.outcomes() == {"lost": 3}


async def test_too_many_in_flight_are_shed_and_late_ones_given_up() -> None:
    async with Fleet([NodeSpec(control=Control(freeze="all"))]) as fleet:
        records = await make(fleet, in_flight=4, timeout=0.2).run(burst(6))
        assert records.outcomes() == {"late": 4, "shed": 2}
        assert all(math.isnan(first) for first in records.first)


async def test_giving_up_ends_the_node_s_work() -> None:
    async with Fleet([NodeSpec(control=Control(slow=50))]) as fleet:
        node = fleet.nodes["node"]
        await make(fleet, timeout=0.2).run(burst(2, answer=500))
        async with asyncio.timeout(5):
            while node.state()["cancelled"] < 2:  # noqa: ASYNC110  the node tells nobody
                await asyncio.sleep(0.002)
        assert node.state()["running"] == 0


async def test_a_flooded_node_works_for_nobody_that_asked() -> None:
    async with Fleet([NodeSpec(control=Control(slow=0.1))]) as fleet:
        node = fleet.nodes["node"]
        node.control({"flood": 200})
        async with asyncio.timeout(5):
            while node.state()["prompt_tokens"] == 0:  # noqa: ASYNC110  the node tells nobody
                await asyncio.sleep(0.002)
        assert node.state()["requests"] == {}
        node.control({"flood": 0})
        async with asyncio.timeout(20):
            while node.state()["running"]:  # noqa: ASYNC110  the node tells nobody
                await asyncio.sleep(0.01)


async def test_a_target_must_be_a_plain_http_url() -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Traffic(["https://example"], Question(), time.monotonic, Random(1))


def test_percentiles_of_nothing_are_nan_and_of_something_are_in_it() -> None:
    assert math.isnan(percentile([], 0.5))
    values = [float(value) for value in range(100)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 99.0)


def test_spans_leave_out_what_started_outside() -> None:
    records = Records()
    for start in (0.0, 10.0, 20.0):
        row = records.open(start)
        records.first[row] = start + 1
        records.close(row, start + 2, "ok", 200, "a")
    assert list(records.rows(5.0, 15.0)) == [1]
    assert records.times_to_first(since=5.0) == [1.0, 1.0]
    assert records.outcomes(until=15.0) == {"ok": 2}
