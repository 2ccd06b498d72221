"""Two replicas over the same Envoys and nodes: each averages for itself, and their weights agree but for a moment.

Each Envoy listens to one of the two, so that a lasting disagreement would send callers two ways. Prints how long and
how far they disagreed while others flooded one node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import pytest

from support.envoy import RealEnvoy, free_port
from support.stack import Stack, node
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.state import EnvoyPlace, EnvoyPlaces
from weighbridge_operator.xds.bootstrap import BootstrapSettings, bootstrap
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
EVENT = 24.0  # seconds
RATE = 30.0  # requests a second
MOMENT = 5.0  # seconds for which they may disagree: two rounds of asking, and the gap between pushes is six


async def test_two_replicas_agree_during_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    specs = [NodeSpec(name=name, models=(("m", "m"),), answer=48) for name in "abc"]
    async with AsyncExitStack() as running:
        fleet = await running.enter_async_context(Fleet(specs))
        places: Latest[EnvoyPlaces] = Latest()
        first = await running.enter_async_context(
            Stack(*(node(name, fleet.nodes[name].port, capacity=1) for name in "abc"))
        )
        second = await running.enter_async_context(_Second(first, places))
        places.set({"envoy-0": EnvoyPlace(_stats(first), sure=True), "envoy-1": EnvoyPlace(second.stats, sure=True)})
        first.loop._places = places
        callers = asyncio.create_task(_call(first.port))
        running.callback(callers.cancel)
        await asyncio.sleep(6.0)
        fleet.nodes["a"].control({"flood": 25})
        seen = await _compare(first.loop, second.loop)
    longest, most = _judge(seen)
    with capsys.disabled():
        print(
            f"\ntwo replicas during {EVENT:g} s of an event: disagreed for at most {longest:.1f} s, by {most:.1f} times"
        )
    assert len({tuple(sorted(ours.items())) for _, ours, _ in seen}) > 1, "nothing happened"
    assert longest < MOMENT
    assert seen[-1][1] == seen[-1][2]


class _Second:
    """Another replica: its own loop and ADS server over the same objects, with an Envoy of its own."""

    def __init__(self, first: Stack, places: Latest[EnvoyPlaces]) -> None:
        self._first, self._places = first, places
        self._running = AsyncExitStack()

    async def __aenter__(self) -> _Second:
        snapshots: Latest[Snapshot] = Latest()
        server = AdsServer("weighbridge", snapshots)
        entrance = Entrance(port=self._first.port)
        self.loop = Loop(
            self._first.loop.loaded, server.states, snapshots, scope=Scope(), entrance=entrance, places=self._places
        )
        port = await server.start("127.0.0.1:0")
        self._running.push_async_callback(server.stop, 0.1)
        task = asyncio.create_task(self.loop.run())
        self._running.push_async_callback(_end, task)
        admin = free_port()
        self.stats = f"http://127.0.0.1:{admin}"
        settings = BootstrapSettings(f"127.0.0.1:{port}", "weighbridge", "envoy-1", admin)
        await self._running.enter_async_context(RealEnvoy(bootstrap(settings), admin_port=admin))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _stats(stack: Stack) -> str:
    states = stack.server.states.get()
    assert states is not None
    return str(states.envoys[0].stats)


async def _call(port: int) -> None:
    """Callers of both Envoys, which share the port."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 48}

    async def ask(http: aiohttp.ClientSession) -> None:
        with suppress(aiohttp.ClientError):
            async with http.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as answer:
                await answer.read()

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as tasks:
        while True:
            tasks.create_task(ask(http))
            await asyncio.sleep(1 / RATE)


_Weights = Mapping[str, int]


async def _compare(ours: Loop, theirs: Loop) -> list[tuple[float, _Weights, _Weights]]:
    seen: list[tuple[float, _Weights, _Weights]] = []
    end = time.monotonic() + EVENT
    while time.monotonic() < end or (seen and seen[-1][1] != seen[-1][2] and time.monotonic() < end + MOMENT):
        seen.append((time.monotonic(), _weights(ours), _weights(theirs)))
        await asyncio.sleep(0.1)
    return seen


def _weights(loop: Loop) -> dict[str, int]:
    return {name: weight for weights in loop.weighed.weights.values() for name, weight in weights.items()}


def _judge(seen: list[tuple[float, Any, Any]]) -> tuple[float, float]:
    """The longest time for which the two disagreed, in seconds, and the largest ratio of two shares then."""
    longest, most, since = 0.0, 1.0, None
    for at, ours, theirs in seen:
        if ours == theirs:
            since = None
            continue
        since = since or at
        longest = max(longest, at - since)
        for name in ours:
            one, other = ours[name] / sum(ours.values()), theirs[name] / sum(theirs.values())
            most = max(most, one / other, other / one)
    return longest, most
