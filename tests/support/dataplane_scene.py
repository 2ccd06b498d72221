"""The scene of `support.scene` with a data plane beside Envoy, and what it costs requests when that is hurt."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import aiohttp

from support.dataplane import TIMEOUTS
from support.losses import ANSWER, RATE, Figure, count
from support.scene import MODEL, Process, Scene, wait_for
from support.slow_dataplane import COMMAND
from weighbridge_simulator.records import Records, percentile
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival

POLICY = {"apiVersion": "weighbridge.dev/v1alpha1", "kind": "RoutePolicy", "metadata": {"name": "p"}}
STREAMS, TOKENS = 50, 10_000  # streams at once; their tokens, more than there is time for
BEFORE, FIRST, AFTER = 2.0, 5.0, 2.0  # seconds: before it is hurt; in which Envoy may notice; after it was healed

Hurt = Callable[["DataplaneScene"], Awaitable[Any]]


class DataplaneScene(Scene):
    """Its policy asks for a choice for each request where `precise` is set."""

    def __init__(self) -> None:
        super().__init__(flags=("--every", "20"))
        self.precise = False

    def objects(self) -> list[dict[str, Any]]:
        return [*super().objects(), POLICY | {"spec": {"balance": {"precise": self.precise}}}]

    @property
    def socket(self) -> str:
        return str(self.folder / "dataplane")

    def bootstrap_flags(self) -> tuple[str, ...]:
        return (*super().bootstrap_flags(), "--dataplane-socket", self.socket)

    async def start_dataplane(self) -> None:
        admin = f"http://127.0.0.1:{self.envoy_admin}"
        self.dataplane = Process(
            *(sys.executable, "-c", COMMAND, "dataplane"),
            *("--socket", self.socket, "--admin-url", admin),
            log=self.folder / "log",
        )
        await self.dataplane.start()
        self._running.push_async_callback(self.dataplane.kill)

    async def begin(self) -> None:
        """Until nodes are named."""
        self.precise = True
        self.write(*self.objects())
        await self.start_dataplane()
        await wait_for(self.is_named)

    async def is_named(self) -> bool:
        """Whether the node of a request is named now."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with suppress(aiohttp.ClientError):
            async with self.http.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                return answer.headers.get("x-weighbridge-choice") == "precise"
        return False

    async def timeouts(self) -> int:
        """Requests that waited for the data plane in vain, so far."""
        async with self.http.get(f"http://127.0.0.1:{self.envoy_admin}/stats?filter=^{TIMEOUTS}$") as answer:
            return int((await answer.text()).rpartition(" ")[2])


async def hurt(name: str, harm: Hurt, heal: Hurt | None, seconds: float, *, beside: bool = True) -> Figure:
    """Whole answers and long streams while the data plane is hurt for so many seconds; `beside` the weights alone."""
    async with DataplaneScene() as scene:
        lasts = BEFORE + seconds + (AFTER if heal else 0.0)
        alone = (await _load(scene, lasts, asyncio.sleep(lasts)))[0] if beside else Records()
        await scene.begin()
        told: dict[str, Any] = {}
        whole, cut = await _load(scene, lasts, _follow(scene, harm, heal, seconds, told))
        if heal:
            told["named_again_s"] = round(await wait_for(scene.is_named) + told.pop("healed"), 1)
    times = [records.durations(BEFORE, BEFORE + seconds) for records in (whole, alone)]
    for share, word in ((0.5, "p50"), (0.99, "p99")):
        ours, weights = (round(percentile(each, share), 3) for each in times)
        told |= {f"{word}_s": ours} | ({f"{word}_weights_s": weights} if beside else {})
    return count(name, whole, streams=STREAMS, streams_cut=cut, **told)


async def _load(scene: Scene, lasts: float, meanwhile: Awaitable[Any]) -> tuple[Records, int]:
    """Whole answers, RATE a second, and how many of the streams beside them did not outlast them."""
    asking = Traffic([scene.url], Question(MODEL, stream=False), time.monotonic, Random(1), timeout=20.0)
    streaming = Traffic([scene.url], Question(MODEL), time.monotonic, Random(2), timeout=10 * lasts)
    async with asyncio.TaskGroup() as tasks:
        streams = tasks.create_task(streaming.run(Arrival(i / STREAMS, 8, TOKENS) for i in range(STREAMS)))
        whole = tasks.create_task(asking.run(Arrival(i / RATE, 8, ANSWER) for i in range(round(lasts * RATE))))
        await meanwhile
        await whole
        cut = STREAMS - streaming.records.counts["open"]
        streams.cancel()
    return whole.result(), cut


async def _follow(scene: DataplaneScene, harm: Hurt, heal: Hurt | None, seconds: float, told: dict[str, Any]) -> None:
    await asyncio.sleep(BEFORE)
    marks = [await scene.timeouts()]
    hurting = asyncio.create_task(_run(harm(scene)))
    for span in (FIRST, seconds - FIRST):
        await asyncio.sleep(span)
        marks.append(await scene.timeouts())
    hurting.cancel()
    told |= {"delayed": marks[1] - marks[0], "delayed_after_5s": marks[2] - marks[1]}
    if heal is not None:
        await heal(scene)
        began = time.monotonic()
        await asyncio.sleep(AFTER)
        told["healed"] = 0.0 if await scene.is_named() else time.monotonic() - began


async def _run(harm: Awaitable[Any]) -> None:
    await harm


async def kill(scene: DataplaneScene) -> None:
    await scene.dataplane.kill()


async def freeze(scene: DataplaneScene) -> None:
    scene.dataplane.send(signal.SIGSTOP)


async def thaw(scene: DataplaneScene) -> None:
    scene.dataplane.send(signal.SIGCONT)


async def slow(scene: DataplaneScene) -> None:
    scene.dataplane.send(signal.SIGUSR1)


async def stammer(scene: DataplaneScene) -> None:
    """Stopped for 50 ms of each 60."""
    try:
        while True:
            scene.dataplane.send(signal.SIGSTOP)
            await asyncio.sleep(0.05)
            scene.dataplane.send(signal.SIGCONT)
            await asyncio.sleep(0.01)
    finally:
        scene.dataplane.send(signal.SIGCONT)


async def restart(scene: DataplaneScene) -> None:
    """Ended by SIGTERM and started again, as a supervisor does."""
    scene.dataplane.send(signal.SIGTERM)
    assert scene.dataplane.child is not None
    await scene.dataplane.child.wait()
    await scene.start_dataplane()


async def nothing(_: DataplaneScene) -> None:
    """Heals by itself."""
