"""From `kubectl apply` to effect: how long until a changed RoutePolicy decides about requests at every Envoy.

`make bench-apply` runs it: a real API server with 1,000 ModelNodes in it, the cluster source and everything behind it
as in the operator, two real Envoys. Each change gives the policy another header to look for. The clock starts when the
change is sent and stops when every Envoy has accepted its configuration and a request with that header was answered
under the policy. Promise S5: p99 under 250 ms.

The nodes but one are never asked anything (engine openai: no health checks, no metrics): what is measured is the way of
a change. The asking runs in the operator's own process, which can only make it slower.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from support.apiserver import ApiServer
from support.assets import NoAssetsError, bring_assets
from support.envoy import RealEnvoy, free_port
from support.stack import node, policy
from support.witness import Witness
from weighbridge_operator.core.doors import DoorNames
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.keeping import collect_seldom
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.settings import KubernetesSettings
from weighbridge_operator.sources.kube.access import Api
from weighbridge_operator.sources.kube.source import ClusterSource
from weighbridge_operator.state import Objects
from weighbridge_operator.xds.bootstrap import BootstrapSettings, bootstrap
from weighbridge_operator.xds.names import POLICY_HEADER
from weighbridge_operator.xds.server import AdsServer
from weighbridge_operator.xds.snapshot import Snapshot
from weighbridge_operator.xds.translate import Entrance
from weighbridge_operator.xds.warmth import ask_over

ENVOYS = 2
POOL = 10  # nodes that serve the same model
LIMIT = 60.0  # seconds for one change
PROMISE = 0.25  # seconds, p99
BODY = {"model": "asked", "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True, slots=True)
class Effect:
    """One change, in seconds since it was sent: stored by the API server; accepted everywhere and decided a request."""

    stored: float
    served: float


class Gateway:
    """`async with Gateway(namespace) as gateway:` is the operator's whole way from the cluster to real Envoys."""

    def __init__(self, namespace: str) -> None:
        self._namespace, self._running = namespace, AsyncExitStack()

    async def __aenter__(self) -> Gateway:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        objects: Latest[Objects] = Latest()
        self._snapshots: Latest[Snapshot] = Latest()
        api = await self._running.enter_async_context(Api())
        self.http = await self._running.enter_async_context(aiohttp.ClientSession())
        source = ClusterSource(KubernetesSettings(self._namespace, "bench", (self._namespace,)), api, objects, {})
        self._server = AdsServer("weighbridge", self._snapshots, warmth=ask_over(self.http))
        xds = await self._server.start("127.0.0.1:0")
        self._running.push_async_callback(self._server.stop, 0.1)
        # Not as in a cluster: there a loopback address is nobody's node.
        scope, names = Scope(self._namespace), DoorNames(self._namespace, None, None)
        states, entrance = self._server.states, Entrance(port=port)
        loop = Loop(objects, states, self._snapshots, scope=scope, entrance=entrance, names=names)
        tasks = [asyncio.create_task(source.run()), asyncio.create_task(loop.run())]
        self._running.callback(lambda: [task.cancel() for task in tasks])
        for number in range(ENVOYS):
            admin = free_port()
            told = BootstrapSettings(f"127.0.0.1:{xds}", "weighbridge", f"envoy-{number}", admin)
            await self._running.enter_async_context(RealEnvoy(bootstrap(told), admin_port=admin, concurrency=1))
        async with asyncio.timeout(LIMIT):
            version = 0
            while not self.is_current():
                _, version = await states.wait_newer(version)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    def is_current(self) -> bool:
        """Whether every Envoy has accepted the newest configuration."""
        states, snapshot = self._server.states.get(), self._snapshots.get()
        return (
            states is not None
            and snapshot is not None
            and len(states.envoys) == ENVOYS
            and all(envoy.current for envoy in states.envoys)
        )

    async def answers_under_policy(self, revision: str) -> bool:
        """Whether a request that carries the newest header is decided by the policy."""
        headers = {"x-revision": revision}
        async with self.http.post(f"{self.url}/v1/chat/completions", json=BODY, headers=headers) as answer:
            await answer.read()
            return answer.status == 200 and POLICY_HEADER in answer.headers


def describe(document: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The object, in a namespace."""
    document["metadata"]["namespace"] = namespace
    return document


def fill(server: ApiServer, namespace: str, nodes: int, port: int) -> None:
    """Stores the nodes: one that answers, and the rest in pools of ten."""
    server.apply(describe(node("asked", port, "asked", engine="openai"), namespace))
    for number in range(nodes - 1):
        # Nobody listens there, and nobody asks.
        spec = {"engine": "openai", "address": {"host": f"127.1.{number >> 8}.{number & 255}", "port": 9}}
        server.apply(describe(node(f"node-{number:05}", 9, f"model-{number // POOL:04}", **spec), namespace))
        if number % 100 == 99:
            print(f"\r\x1b[K{number + 1} of {nodes} nodes stored", end="", file=sys.stderr, flush=True)


async def change(gateway: Gateway, server: ApiServer, namespace: str, revision: str) -> Effect:
    """One change of the policy, followed to its effect."""
    wanted = policy("asked", match={"models": ["asked"], "headers": {"x-revision": revision}})
    began = time.monotonic()
    storing = asyncio.create_task(asyncio.to_thread(server.apply, describe(wanted, namespace)))
    stored = now = 0.0
    served = False
    async with asyncio.timeout(LIMIT):
        while not (served and gateway.is_current()):
            await asyncio.sleep(0.01)
            served = await gateway.answers_under_policy(revision)
            now = time.monotonic() - began
            stored = stored or (now if storing.done() else 0.0)
    await storing
    return Effect(stored or now, now)


async def run(server: ApiServer, nodes: int, changes: int) -> list[Effect]:
    """All changes, one after the other."""
    namespace = server.create_namespace()
    os.environ["KUBECONFIG"] = str(server.kubeconfig)
    effects = []
    async with Witness() as witness:
        await asyncio.to_thread(fill, server, namespace, nodes, witness.port)
        async with Gateway(namespace) as gateway:
            for number in range(changes):
                print(f"\r\x1b[Kchange {number + 1} of {changes}", end="", file=sys.stderr, flush=True)
                effects.append(await change(gateway, server, namespace, str(number)))
                await asyncio.sleep(0.05)
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return effects


def show(effects: list[Effect], nodes: int) -> bool:
    """Prints the table; whether the promise holds."""
    print(f"{len(effects)} changes of a RoutePolicy beside {nodes:,} ModelNodes, {ENVOYS} Envoys; ms since sent\n")
    print(f"{'':40}{'p50':>8}{'p99':>8}{'most':>8}")
    _show_row("stored by the API server", [effect.stored for effect in effects])
    served = _show_row("every Envoy has it, and it decides", [effect.served for effect in effects])
    holds = served <= PROMISE
    print(f"\n{'holds' if holds else 'MISSED'}: S5, p99 under {PROMISE * 1000:.0f} ms", end="")
    print(f"; load average {os.getloadavg()[0]:.1f}")
    return holds


def _show_row(what: str, seconds: list[float]) -> float:
    """Prints one line; its p99."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    values = (statistics.median(ordered), p99, ordered[-1])
    print(f"{what:40}" + "".join(f"{value * 1000:8.0f}" for value in values))
    return p99


def main() -> int:
    """0 if the promise holds, 1 if not, 2 if it can't run here."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw results")
    given = parser.parse_args()
    try:
        assets = bring_assets(lambda line: print(line, file=sys.stderr))
    except NoAssetsError as error:
        print(error, file=sys.stderr)
        return 2
    collect_seldom()  # as the operator does
    with ApiServer(assets) as server:
        effects = asyncio.run(run(server, given.nodes, given.changes))
    if given.json is not None:
        given.json.write_text(json.dumps([[e.stored, e.served] for e in effects]))
    return 0 if show(effects, given.nodes) else 1


if __name__ == "__main__":
    sys.exit(main())
