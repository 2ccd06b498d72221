"""Faults under constant load: what is lost when nodes, the operator or the configuration change.

    make bench-faults                                              # all, some two minutes, as a table
    PYTHONPATH=tests .venv/bin/python bench/faults.py killed-node  # one

Real processes: nodes are `weighbridge simulate`, the control plane is `weighbridge operator`, Envoy runs beside them
with what `weighbridge bootstrap` prints. "lost" is any answer that is not the expected one, or a cut stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import openai

from support.losses import Figure, count, during, load
from support.scene import MODEL, NAMES, Scene, describe_node, wait_for
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival


async def _kill(scene: Scene, name: str) -> None:
    await scene.nodes[name].kill()


async def _freeze(scene: Scene, name: str) -> None:
    scene.nodes[name].send(signal.SIGSTOP)


async def killed_node(seconds: float = 8.0) -> Figure:
    """F5: kill -9 of one node of three; answers in one piece."""
    async with Scene() as scene:
        return count("node killed", await during(scene, seconds, _kill(scene, "a")))


async def killed_node_streams(seconds: float = 8.0) -> Figure:
    """Streams when a node dies: those that had their headers are cut, for stock Envoy can't take them back."""
    async with Scene() as scene:
        records = await during(scene, seconds, _kill(scene, "a"), stream=True)
        cut = [row for row in records.rows() if records.outcome(row) == "cut"]
        silent = sum(1 for row in cut if records.first[row] != records.first[row])
        return count("node killed, streams", records, cut_before_first_token=silent)


async def frozen_node(seconds: float = 10.0, *, zero: bool = True) -> Figure:
    """F5: SIGSTOP of one node of three; answers in one piece.

    What waits there when it freezes, and what comes until it looks the fullest, waits for the total: with answers that
    take time it is as many requests as the other nodes have at once.
    """
    async with Scene(flags=("--zero",) if zero else ()) as scene:
        records = await during(scene, seconds, _freeze(scene, "a"), after=2.0, patience=5.0)
        return count("node frozen" if zero else "node frozen, answers of 50 ms", records)


async def frozen_node_streams(seconds: float = 10.0) -> Figure:
    """Streams when a node freezes before their head: another node answers after firstToken."""
    async with Scene() as scene:
        policy = {"apiVersion": "weighbridge.dev/v1alpha1", "kind": "RoutePolicy", "metadata": {"name": "p"}}
        scene.write(
            *scene.objects(), policy | {"spec": {"timeouts": {"firstToken": "2s", "total": "1m", "idle": "2s"}}}
        )
        await asyncio.sleep(1.0)
        records = await during(scene, seconds, _freeze(scene, "a"), stream=True, patience=15.0)
        return count("node frozen, streams, firstToken 2 s", records)


async def killed_operator(seconds: float = 8.0) -> Figure:
    """F1: kill -9 of the operator; after its restart a change takes effect."""
    async with Scene() as scene:
        effects: list[float] = []

        async def fall_and_rise() -> None:
            await scene.operator.kill()
            await asyncio.sleep(2.0)
            await scene.start_operator()
            await wait_for(lambda: scene.is_well(f"http://127.0.0.1:{scene.admin}/healthz"))
            renamed = [describe_node(n, p, models=[{"name": MODEL}, {"name": "new", "servedAs": MODEL}])
                       for n, p in scene.ports.items()]  # fmt: skip
            scene.write(*renamed)
            effects.append(await wait_for(lambda: scene.answers("new")))

        records = await during(scene, seconds, fall_and_rise())
        return count("operator killed", records, effect_s=round(effects[0], 2))


async def dying_stream() -> Figure:
    """F6: a node dies in mid-stream; the official client raises."""
    async with Scene(flags=("--every", "1")) as scene:
        ask = openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="unused", max_retries=0)
        headers = {"x-sim-answer": "4000"}
        streams = [
            await ask.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": str(i)}], stream=True, extra_headers=headers
            )
            for i in range(12)
        ]
        died: list[float] = []
        waits: list[float] = []
        ended = 0

        async def read(stream: Any) -> None:
            nonlocal ended
            finished = False
            try:
                async for chunk in stream:
                    finished = finished or any(choice.finish_reason for choice in chunk.choices)
                ended += not finished
            except Exception:
                waits.append(time.monotonic() - died[0])

        reading = [asyncio.create_task(read(stream)) for stream in streams]
        await asyncio.sleep(0.5)
        died.append(time.monotonic())
        await asyncio.gather(*(scene.nodes[name].kill() for name in NAMES))
        await asyncio.gather(*reading)
        await ask.close()
        slowest = round(max(waits, default=0.0), 2)
        return Figure("streams of dying nodes", len(streams), ended, {"raised": len(waits), "slowest_s": slowest})


async def changes(seconds: float = 6.0) -> Figure:
    """F7: every kind of change during 50 streams."""
    async with Scene(flags=("--every", "1")) as scene:
        tokens = 800
        streams = Traffic([scene.url], Question(MODEL), time.monotonic, Random(2), timeout=60.0)
        running = asyncio.create_task(streams.run(Arrival(i / 200, 8, tokens) for i in range(50)))
        began = time.monotonic()
        made = 0
        await asyncio.sleep(0.5)
        base = scene.objects()
        policy = {"apiVersion": "weighbridge.dev/v1alpha1", "kind": "RoutePolicy", "metadata": {"name": "p"}}
        steps = [
            [*base, describe_node("d", scene.ports["a"])],
            base,
            [*base, policy | {"spec": {"retry": {"attempts": 1}, "timeouts": {"total": "5m"}}}],
            [*base, policy | {"spec": {"match": {"headers": {"x-team": "a"}}}}],
            [describe_node(n, p, models=[{"name": MODEL, "servedAs": MODEL}, {"name": "x", "servedAs": MODEL}])
             for n, p in scene.ports.items()],
            [describe_node(n, p, models=[{"name": "renamed", "servedAs": MODEL}]) for n, p in scene.ports.items()],
            [describe_node(n, p, capacity=2.0, health={"interval": "3s"}) for n, p in scene.ports.items()],
            [],
            base,
        ]  # fmt: skip
        while not running.done() and made < len(steps):
            scene.write(*steps[made])
            made += 1
            await asyncio.sleep(seconds / len(steps))
        left = not running.done()
        records = await running
        return count("changes during streams", records, changes=made, outlived=left,
                     took_s=round(time.monotonic() - began, 1))  # fmt: skip


async def fast_failing(status: int, seconds: float = 8.0) -> Figure:
    """A node that fails at once draws no crowd: what it gets, when it is left out, and whether it comes back."""
    async with Scene() as scene:

        async def fail() -> None:
            await scene.control("a", fail=status)
            await asyncio.sleep(3.0)
            await scene.control("a", fail=None)

        records = await during(scene, seconds, fail(), after=1.0)
        again = load(scene, 8.0)
        later = await again
        share = later.shares(since=4.0).get("a", 0.0)
        return count(f"node answers {status} at once", records, share_after_recovery=round(share, 2))  # fmt: skip


FAULTS: dict[str, Callable[[], Awaitable[Figure]]] = {
    "killed-node": killed_node,
    "killed-node-streams": killed_node_streams,
    "frozen-node": frozen_node,
    "frozen-node-busy": lambda: frozen_node(zero=False),
    "frozen-node-streams": frozen_node_streams,
    "killed-operator": killed_operator,
    "dying-stream": dying_stream,
    "changes": changes,
    "failing-500": lambda: fast_failing(500),
    "failing-503": lambda: fast_failing(503),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fault", nargs="*", choices=[*FAULTS, []], help="default: all")
    for name in parser.parse_args().fault or FAULTS:
        figure = asyncio.run(FAULTS[name]())
        rest = json.dumps(figure.told)
        print(f"{figure.fault:32} asked {figure.asked:5}  lost {figure.lost:4}  {rest}", flush=True)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
