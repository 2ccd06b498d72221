"""Rounds keep their beat whatever nodes do, follow who joins and leaves, and count requests wholly or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from weighbridge_operator.latest import Latest
from weighbridge_operator.sources import rounds as module
from weighbridge_operator.sources.envoys import EnvoyRound, EnvoyState
from weighbridge_operator.sources.rounds import LATE, UNASKED, Rounds, assign, choose_period
from weighbridge_operator.sources.scrape import ScrapeTarget
from weighbridge_operator.state import LoadRound

FIRST_TOKENS = "vllm:time_to_first_token_seconds"


@dataclass
class Fleet:
    """Nodes and Envoys behind one port: /node/<name> prints vLLM's names, /stats/prometheus an Envoy's."""

    place: str = ""
    hanging: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    counted: int = 0  # first tokens so far
    envoy: bool = True

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/stats/prometheus":
            return web.Response(text=ENVOY) if self.envoy else web.Response(status=503)
        node = request.path.removeprefix("/node/")
        self.asked.append(node)
        if node in self.hanging:
            await asyncio.Event().wait()
        self.counted += 1
        seconds, count = self.counted * 0.5, self.counted
        return web.Response(
            text=f"vllm:num_requests_running {len(node)}\n{FIRST_TOKENS}_sum {seconds}\n{FIRST_TOKENS}_count {count}\n"
        )

    def targets(self, *nodes: str) -> list[ScrapeTarget]:
        return [ScrapeTarget(node, "vllm", (f"http://{self.place}/node/{node}",)) for node in nodes]


ENVOY = """envoy_cluster_manager_warming_clusters{} 0
envoy_server_live{} 1
envoy_cluster_endpoint_rq_active{envoy_cluster_name="pool_a",envoy_endpoint_address="10.0.0.1:80"} 3
"""


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    this = Fleet()
    runner = web.ServerRunner(web.Server(this.answer), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    this.place = "{}:{}".format(*runner.addresses[0][:2])
    yield this
    await runner.cleanup()


@dataclass
class Asked:
    """Rounds while they run, and what they are told to ask."""

    targets: list[ScrapeTarget]
    envoys: dict[str, str]
    owners: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    out: Latest[LoadRound] = field(default_factory=Latest)
    envoys_out: Latest[EnvoyRound] = field(default_factory=Latest)

    async def next(self, count: int = 1) -> LoadRound:
        """The round after `count` more."""
        version = self.out.version
        for _ in range(count):
            newest, version = await asyncio.wait_for(self.out.wait_newer(version), 5)
        return newest


@asynccontextmanager
async def asking(
    targets: list[ScrapeTarget], envoys: dict[str, str] | None = None, period: float = 0.02, patience: float = 200.0
) -> AsyncIterator[Asked]:
    """Quick rounds with much patience, unless the test is about the bound."""
    asked = Asked(targets, envoys or {})
    rounds = Rounds(
        lambda: asked.targets,
        lambda: asked.envoys,
        lambda: asked.owners,
        asked.out,
        asked.envoys_out,
        period=lambda _: period,
        patience=patience,
    )
    before = asyncio.all_tasks()
    task = asyncio.create_task(rounds.run())
    try:
        yield asked
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ours = {left for left in asyncio.all_tasks() - before if "weighbridge" in str(left.get_coro())}
        assert not ours


async def test_one_round_brings_every_node_and_every_envoys_counts(fleet: Fleet) -> None:
    base = f"http://{fleet.place}"
    async with asking(fleet.targets("b", "aa"), {"one": base, "two": base}) as asked:
        asked.owners = {("pool:a", "10.0.0.1:80"): ("chat", "aa"), ("pool:a", "10.0.0.2:80"): ("chat", "b")}
        first = await asked.next(2)
    assert {node: (sample.running, sample.error) for node, sample in first.samples.items()} == {
        "aa": (2.0, None),
        "b": (1.0, None),
    }
    assert list(first.samples) == ["aa", "b"]
    assert first.inflight == {("chat", "aa"): 6, ("chat", "b"): 0}
    assert all(first.at <= sample.at <= time.monotonic() for sample in first.samples.values())
    states = asked.envoys_out.get()
    assert states is not None
    assert states.states.keys() == {"one", "two"}


async def test_counters_live_from_round_to_round(fleet: Fleet) -> None:
    async with asking(fleet.targets("a")) as asked:
        first = await asked.next()
        second = await asked.next()
    assert (first.samples["a"].latency, second.samples["a"].latency) == (None, 0.5)


async def test_a_node_joins_and_leaves_between_rounds_and_a_return_starts_anew(fleet: Fleet) -> None:
    async with asking(fleet.targets("a")) as asked:
        await asked.next()
        asked.targets = fleet.targets("a", "b")
        joined = await asked.next(2)
        asked.targets = fleet.targets("b")
        left = await asked.next(2)
        asked.targets = fleet.targets("a", "b")
        back = await asked.next()
        while "a" not in back.samples:
            back = await asked.next()
    assert (joined.samples.keys(), left.samples.keys()) == ({"a", "b"}, {"b"})
    assert back.samples["a"].latency is None
    assert back.samples["b"].latency == 0.5


async def test_an_envoy_without_an_answer_makes_the_counts_unknown_and_is_named(fleet: Fleet) -> None:
    base = f"http://{fleet.place}"
    async with asking(fleet.targets("a"), {"one": base, "gone": "http://127.0.0.1:1"}) as asked:
        partly = await asked.next()
        states = asked.envoys_out.get()
        asked.envoys = {"one": base}
        whole = await asked.next(2)
        fleet.envoy = False
        failing = await asked.next(2)
    assert partly.inflight is None
    assert states is not None
    assert states.missing.keys() == {"gone"}
    assert whole.inflight == {}
    assert failing.inflight is None
    assert failing.samples["a"].running == 1.0


async def test_without_envoys_the_counts_are_unknown(fleet: Fleet) -> None:
    async with asking(fleet.targets("a")) as asked:
        assert (await asked.next()).inflight is None


async def test_a_hung_node_delays_no_round_beyond_its_bound_and_no_other_node(fleet: Fleet) -> None:
    fleet.hanging = {"a"}
    async with asking(fleet.targets("a", "b"), period=0.2, patience=0.9) as asked:
        began = [(await asked.next()).at for _ in range(4)]
        last = asked.out.get()
    assert last is not None
    assert (last.samples["a"].running, last.samples["a"].error) == (None, LATE)
    assert last.samples["b"].error is None
    # Three beats, not three beats and three rounds of 0.18 s.
    assert 0.6 - 0.05 <= began[-1] - began[0] < 0.6 + 2 * 0.18


async def test_however_many_hang_the_others_are_asked_and_the_hung_take_turns(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONCURRENCY", 2)
    fleet.hanging = {"a", "b", "c", "d"}
    async with asking(fleet.targets("a", "b", "c", "d", "x", "y"), period=0.1, patience=0.9) as asked:
        first = await asked.next()
        assert {node for node, sample in first.samples.items() if sample.error == LATE} == {"a", "b"}
        assert {node for node, sample in first.samples.items() if sample.error == UNASKED} == {"c", "d", "x", "y"}
        late: set[str] = set()
        answered: set[str] = set()
        for _ in range(30):
            samples = (await asked.next()).samples.values()
            late |= {sample.node for sample in samples if sample.error == LATE}
            answered |= {sample.node for sample in samples if sample.running}
            if len(late) >= 4 and answered == {"x", "y"}:
                break
    assert (late >= {"a", "b", "c", "d"}, answered) == (True, {"x", "y"})


async def test_a_failing_node_comes_back_by_itself(fleet: Fleet) -> None:
    fleet.hanging = {"a"}
    async with asking(fleet.targets("a"), period=0.1, patience=0.9) as asked:
        assert (await asked.next()).samples["a"].error == LATE
        fleet.hanging = set()
        for _ in range(30):
            sample = (await asked.next()).samples["a"]
            if not sample.error:
                break
    assert (sample.running, sample.error) == (1.0, None)


async def test_cancelled_in_the_middle_of_a_round_nothing_is_left(fleet: Fleet) -> None:
    fleet.hanging = {"a"}
    async with asking(fleet.targets("a"), period=10):
        async with asyncio.timeout(5):
            while not fleet.asked:  # noqa: ASYNC110  # a server's coroutine sets it
                await asyncio.sleep(0.001)


@pytest.mark.parametrize(("endpoints", "period"), [(0, 2.0), (400, 2.0), (1000, 5.0), (1600, 8.0), (100_000, 8.0)])
def test_the_period_grows_with_the_endpoints_between_its_bounds(endpoints: int, period: float) -> None:
    assert choose_period(endpoints) == pytest.approx(period)


def test_a_node_behind_two_clusters_of_one_pool_is_summed() -> None:
    state = EnvoyState(
        1.0, {("p_1", "10.0.0.1:80"): 2, ("p_2", "10.0.0.1:80"): 3, ("q", "10.0.0.1:80"): 9}, {}, {}, 0, True
    )
    owners = {("p:1", "10.0.0.1:80"): ("p", "a"), ("p:2", "10.0.0.1:80"): ("p", "a"), ("q", "10.0.0.1:80"): ("q", "a")}
    assert assign(EnvoyRound({"one": state}, {}), owners) == {("p", "a"): 5, ("q", "a"): 9}
    assert assign(EnvoyRound({"one": state}, {"two": "gone"}), owners) is None
