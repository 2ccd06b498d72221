"""What the ADS server costs with the real Envoy: cold start to live, and a push that changes every weight.

Run from the repository's root: `PYTHONPATH=tests python bench/ads.py [--clusters 1000] [--endpoints 10] [--rounds 5]`.
Times are medians of the rounds, in milliseconds; CPU is this process's (building, serving) and Envoy's own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from google.protobuf.message import Message

from support.envoy import RealEnvoy, free_port
from support.gateway import make_assignment, make_bootstrap, make_cluster, make_listener, make_routes
from weighbridge_operator.latest import Latest
from weighbridge_operator.xds.envoys import EnvoyStates
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot, build
from weighbridge_operator.xds.warmth import ask_over


@dataclass
class Row:
    """One kind of work, over its rounds."""

    what: str
    wall: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    envoys: list[float] = field(default_factory=list)

    def show(self) -> str:
        cells = (statistics.median(values) * 1000 for values in (self.wall, self.ours, self.envoys))
        return f"{self.what:38}" + "".join(f"{cell:12.0f}" for cell in cells)


def read_cpu(process: int | None) -> float:
    """Seconds of CPU that a process has used; 0 for none."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, clusters: int, endpoints: int) -> None:
        self.names = [f"pool-{number:05}" for number in range(clusters)]
        self.endpoints = endpoints
        self.snapshots: Latest[Snapshot] = Latest()

    def assign(self, weight: int) -> list[Message]:
        ports = range(20000, 20000 + self.endpoints)
        weights = [weight + number for number in range(self.endpoints)]
        return [make_assignment(name, ports, weights) for name in self.names]

    def build(self) -> Snapshot:
        return build(
            clusters=map(make_cluster, self.names),
            endpoints=self.assign(1),
            listeners=[make_listener("front", "routes")],
            routes=[make_routes("routes", *self.names)],
        )

    async def reach(self, server: AdsServer, snapshot: Snapshot) -> None:
        """Waits until the Envoy has accepted all of it."""
        version, states = 0, EnvoyStates()
        while not any({k.kind: k.accepted for k in envoy.kinds} == snapshot.versions for envoy in states.envoys):
            states, version = await server.states.wait_newer(version)

    async def measure(self, row: Row, act: Callable[[], Snapshot], server: AdsServer, envoy: int | None) -> None:
        wall, ours, envoys = time.perf_counter(), time.process_time(), read_cpu(envoy)
        await self.reach(server, act())
        row.wall.append(time.perf_counter() - wall)
        row.ours.append(time.process_time() - ours)
        row.envoys.append(read_cpu(envoy) - envoys)

    async def run(self, rounds: int) -> list[Row]:
        made, cold, push = (
            Row("snapshot built from messages"),
            Row("Envoy started to all accepted"),
            Row("every weight"),
        )
        reconnect = Row("server restarted to all accepted")
        async with aiohttp.ClientSession() as http:
            for number in range(rounds):
                began, cpu = time.perf_counter(), time.process_time()
                snapshot = self.build()
                made.wall.append(time.perf_counter() - began)
                made.ours.append(time.process_time() - cpu)
                made.envoys.append(0)
                await self.run_round(http, snapshot, number, (cold, push, reconnect))
        return [made, cold, push, reconnect]

    async def run_round(
        self, http: aiohttp.ClientSession, snapshot: Snapshot, number: int, rows: tuple[Row, Row, Row]
    ) -> None:
        self.snapshots.set(snapshot)
        cold, push, reconnect = rows
        server = AdsServer("test", self.snapshots, warmth=ask_over(http))
        port = await server.start("127.0.0.1:0")
        admin = free_port()
        wall, ours = time.perf_counter(), time.process_time()
        async with RealEnvoy(make_bootstrap(port, admin_port=admin), admin_port=admin) as envoy:
            assert envoy.process is not None
            await self.reach(server, snapshot)
            await envoy.listener_port()
            cold.wall.append(time.perf_counter() - wall)
            cold.ours.append(time.process_time() - ours)
            cold.envoys.append(read_cpu(envoy.process.pid))

            def change() -> Snapshot:
                changed = snapshot.with_endpoints(self.assign(100 + number))
                self.snapshots.set(changed)
                return changed

            await self.measure(push, change, server, envoy.process.pid)
            await server.stop(0.0)
            server = AdsServer("test", self.snapshots, warmth=ask_over(http))
            await server.start(f"127.0.0.1:{port}")
            await self.measure(reconnect, lambda: self.snapshots.get() or snapshot, server, envoy.process.pid)
        await server.stop(0.0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--clusters", type=int, default=1000)
    arguments.add_argument("--endpoints", type=int, default=10)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    rows = asyncio.run(Bench(given.clusters, given.endpoints).run(given.rounds))
    print(f"{given.clusters} clusters of {given.endpoints} endpoints, medians of {given.rounds} rounds\n")
    print(f"{'':38}{'wall ms':>12}{'our CPU ms':>12}{'Envoy ms':>12}")
    for row in rows:
        print(row.show())
    print(f"\nmemory of this process at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
