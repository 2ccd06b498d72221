"""CPU and GPU as a real Prometheus tells them move the shares at the real Envoy, and give them back.

Each scenario has nodes, a Prometheus, an operator and an Envoy of its own, and waits for most of its time: they run
side by side.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from support.prometheus import RealPrometheus, job, needs_prometheus, run_together
from support.stack import Stack, node, policy
from weighbridge_operator.report import EndpointReport, ObjectReport
from weighbridge_operator.settings import PrometheusSettings
from weighbridge_simulator.control import Control
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.records import Records
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), needs_prometheus]
RATE = 20  # requests a second
HOG = {"cpu": 0.97, "gpu": 0.97}
REST = {"cpu": 0.2, "gpu": 0.2}


def make_spec(name: str, **control: Any) -> NodeSpec:
    return NodeSpec(
        name=name, models=(("m", "m"),), machine=True, control=Control(**{"size": 8.0} | control), answer=16
    )


def scrape(fleet: Fleet, **labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """A job for each node, as node_exporter, DCGM and the engine behind one target."""
    return [
        job(name, f"127.0.0.1:{one.port}", labels.get(name), metrics_path="/metrics")
        for name, one in fleet.nodes.items()
    ]


def tell(stack: Stack) -> dict[str, ObjectReport]:
    report = stack.reporter.reports.get()
    return {o.name: o for o in report.objects if o.endpoints} if report else {}


def endpoint(stack: Stack, name: str) -> EndpointReport:
    return tell(stack)[name].endpoints[0]


def condition(stack: Stack, name: str, kind: str) -> tuple[str, str, str]:
    found = next(c for c in tell(stack)[name].conditions if c.type == kind)
    return found.status, found.reason, found.message


async def until(true: Callable[[], bool], limit: float, what: Callable[[], object]) -> float:
    """Seconds until it was true."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < limit, what()
        await asyncio.sleep(0.1)
    return time.monotonic() - began


class Load:
    """Steady requests through the gateway while the block runs."""

    def __init__(self, stack: Stack) -> None:
        self._traffic = Traffic([stack.url], Question("m", stream=False), time.monotonic, random.Random(1))

    async def __aenter__(self) -> Load:
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._traffic.run(Arrival(i / RATE, 8, 16) for i in range(RATE * 600)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def records(self) -> Records:
        return self._traffic.records

    @property
    def lost(self) -> dict[str, int]:
        return {outcome: n for outcome, n in self.records.counts.items() if outcome not in ("ok", "open") and n}

    async def shares(self, seconds: float) -> dict[str, float]:
        """Of the requests of the next seconds."""
        since = time.monotonic() - self._began
        await asyncio.sleep(seconds)
        return self.records.shares(since=since, until=since + seconds - 0.5)


async def a_hog_on_one_node_of_three_lowers_its_share_and_gives_it_back() -> None:
    async with Fleet([make_spec(name, **REST) for name in "abc"]) as fleet:
        labels = {name: {"box": name} for name in "abc"}
        async with RealPrometheus(scrape(fleet, **labels), interval="1s") as prometheus:
            nodes = [
                node(name, one.port, engine="openai", metrics={"prometheus": {"match": {"box": name}}})
                for name, one in fleet.nodes.items()
            ]
            weighed = policy("p", balance={"profile": "classic", "weights": {"cpu": 50, "gpu": 50}})
            settings = PrometheusSettings((prometheus.url,), interval=2.0)
            async with Stack(*nodes, weighed, prometheus=settings) as stack, Load(stack) as load:
                await until(lambda: all(endpoint(stack, n).score for n in "abc"), 30, lambda: tell(stack))
                before = await load.shares(6.0)
                assert min(before.values()) > 0.25, before

                fleet.nodes["b"].control(HOG)
                await until(lambda: (endpoint(stack, "b").score or 0) > 90, 30, lambda: tell(stack))
                fell = await until(lambda: endpoint(stack, "b").weight_share < 30, 30, lambda: endpoint(stack, "b"))
                during = await load.shares(6.0)
                assert during["b"] < 0.8 * min(during["a"], during["c"]), during
                assert endpoint(stack, "b").parts[0].source == f"Prometheus 127.0.0.1:{prometheus.port}"
                assert "points of load are not ours" in endpoint(stack, "b").reason

                fleet.nodes["b"].control(REST)
                rose = await until(lambda: endpoint(stack, "b").weight_share > 33, 60, lambda: endpoint(stack, "b"))
                after = await load.shares(6.0)
                assert min(after.values()) > 0.25, after
                assert load.lost == {}
    print(f"\nweight fell {fell:.1f} s after the score, back {rose:.1f} s after the end; shares", before, during, after)


async def prometheus_killed_costs_no_request_keeps_room_and_lets_the_rest_fade() -> None:
    async with Fleet([make_spec(name, **REST) for name in "abc"]) as fleet:
        labels = {name: {"box": name} for name in "abc"}
        async with RealPrometheus(scrape(fleet, **labels), interval="1s") as prometheus:
            nodes = [
                node(
                    name,
                    one.port,
                    engine="openai",
                    capacity=2 if name == "a" else 1,
                    metrics={"prometheus": {"match": {"box": name}}},
                )
                for name, one in fleet.nodes.items()
            ]
            weighed = policy("p", balance={"profile": "classic", "weights": {"cpu": 50, "gpu": 50}})
            settings = PrometheusSettings((prometheus.url,), interval=2.0)
            async with Stack(*nodes, weighed, prometheus=settings) as stack, Load(stack) as load:
                await until(lambda: all(endpoint(stack, n).score for n in "abc"), 30, lambda: tell(stack))
                fleet.nodes["b"].control(HOG)
                ratio: Callable[[str, str], float] = lambda x, y: (  # noqa: E731
                    endpoint(stack, x).weight / endpoint(stack, y).weight
                )
                await until(lambda: ratio("c", "b") > 1.5, 45, lambda: tell(stack))
                assert condition(stack, "b", "MetricsFresh")[1] == "Fresh"

                prometheus.kill()
                await until(lambda: condition(stack, "b", "MetricsFresh")[0] == "False", 30, lambda: tell(stack))
                away = f"Prometheus 127.0.0.1:{prometheus.port} cannot be connected to, or broke off its answer"
                assert condition(stack, "b", "MetricsFresh") == ("False", "Stale", away)
                faded = await until(lambda: ratio("c", "b") == 1.0, 150, lambda: tell(stack))
                assert ratio("a", "c") == 4.0, "room is held: its square is the weight"
                assert load.lost == {}

                await prometheus.start()
                await until(lambda: condition(stack, "b", "MetricsFresh")[1] == "Fresh", 30, lambda: tell(stack))
                assert load.lost == {}
    print(f"\nneutral but for room {faded:.1f} s after it was known to be away")


CASE = {"node-1": (0.30, 0.40, 5), "node-2": (0.75, 0.65, 20), "node-3": (0.25, 0.35, 3), "node-4": (0.40, 0.50, 8)}
SCORES = {"node-1": 25.5, "node-2": 55.5, "node-3": 21.4, "node-4": 33.4}


async def case_1_from_promql() -> None:
    specs = [make_spec(name, cpu=cpu, memory=memory, queue=queue) for name, (cpu, memory, queue) in CASE.items()]
    async with Fleet(specs) as fleet, RealPrometheus(scrape(fleet), interval="1s") as prometheus:
        # Found by their addresses: nothing but Prometheus is asked.
        nodes = [node(name, one.port, metrics={"prometheus": {}}) for name, one in fleet.nodes.items()]
        settings = PrometheusSettings((prometheus.url,), interval=2.0)
        async with Stack(*nodes, policy("p", balance={"profile": "classic"}), prometheus=settings) as stack:

            def scores() -> dict[str, float | None]:
                return {name: found.endpoints[0].score for name, found in tell(stack).items()}

            def reached() -> bool:
                known = scores()
                return len(known) == 4 and all(abs((known[name] or 0) - SCORES[name]) < 0.5 for name in SCORES)

            await until(reached, 40, scores)
            async with Load(stack) as load:
                await until(lambda: endpoint(stack, "node-2").weight_share < 25, 40, lambda: tell(stack))
                shares = await load.shares(12.0)
                assert load.lost == {}
            assert shares["node-2"] == min(shares.values()), shares
            assert shares["node-3"] >= shares["node-2"], shares
    assert all("Prometheus" in (part.source or "") for part in endpoint(stack, "node-3").parts)


SCENARIOS = (
    case_1_from_promql,
    a_hog_on_one_node_of_three_lowers_its_share_and_gives_it_back,
    prometheus_killed_costs_no_request_keeps_room_and_lets_the_rest_fade,
)
outcomes = run_together(*SCENARIOS)


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
async def test_through_prometheus(outcomes: Mapping[str, asyncio.Task[None]], scenario: str) -> None:
    await outcomes[scenario]
