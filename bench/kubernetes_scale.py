"""What a large cluster costs: cold start, memory, CPU at rest and for a change of a policy.

A real kube-apiserver holds 1,000 and then 10,000 ModelNodes; the operator is a process, and a real Envoy serves by it.
The nodes are of an engine that publishes no load, so that reading, planning and pushing are measured and no scraping.
Run: `make bench-scale`. Prints one row for each fleet, and what the larger costs beside the smaller. CPU is of the
operator alone and says more than the seconds do where others work on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from support.apiserver import ApiServer, call
from support.assets import bring_assets
from support.installed import MODEL, Installed

LIMIT = 180.0  # seconds for anything
REST = 10.0  # seconds over which CPU at rest is taken, after as many for settling
THREADS = 8
POLICIES = "/apis/weighbridge.dev/v1alpha1/namespaces/{}/routepolicies"
HEAD = ("nodes", "ready s", "Envoy live s", "CPU till then s", "RSS MB", "peak MB", "CPU at rest %", "CPU a change ms")


@dataclass(frozen=True)
class Row:
    nodes: int
    ready: float
    live: float
    cold: float
    memory: float
    peak: float
    rest: float
    change: float


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--changes", type=int, default=20)
    options = parser.parse_args()
    rows = []
    with ApiServer(bring_assets(print)) as server:
        for nodes in options.nodes:
            rows.append(await measure(server, nodes, options.changes))
            print_row(HEAD if len(rows) == 1 else (), rows[-1])
    if len(rows) > 1:
        first, last = astuple(rows[0]), astuple(rows[-1])
        print(
            "ratio".rjust(8), *(f"{b / a:14.2f}" if a else " " * 14 for a, b in list(zip(first, last, strict=True))[1:])
        )


def print_row(head: tuple[str, ...], row: Row) -> None:
    if head:
        print(head[0].rjust(8), *(word.rjust(14) for word in head[1:]))
    nodes, *figures = astuple(row)
    print(f"{nodes:8}", *(f"{figure:14.2f}" for figure in figures), flush=True)


async def measure(server: ApiServer, nodes: int, changes: int) -> Row:
    """One fleet in a namespace of its own."""
    namespace = server.create_namespace()
    async with AsyncExitStack() as running:
        await asyncio.to_thread(fill, server, namespace, nodes - 1)
        gateway = await running.enter_async_context(Installed(server, namespace, "probe"))
        port = gateway.fleet.nodes["probe"].port
        place = {"host": gateway.address, "port": port}
        gateway.apply("ModelNode", "probe", spec={"engine": "openai", "address": place, "models": [{"name": MODEL}]})
        gateway.apply("RoutePolicy", "p-0", spec={"match": {"models": [MODEL]}})
        began = time.monotonic()
        xds = await gateway.start_operator("operator-0")
        await gateway.start_envoy("envoy-0", xds)
        ready = await wait(began, lambda: is_ready(gateway))
        live = await wait(began, lambda: answers(gateway, "p-0"))
        pid = find_pid(gateway)
        cold = read_cpu(pid)
        await asyncio.sleep(REST)
        before = read_cpu(pid)
        await asyncio.sleep(REST)
        rest = 100 * (read_cpu(pid) - before) / REST
        memory, peak = read_memory(pid)
        began, before = time.monotonic(), read_cpu(pid)
        for number in range(1, changes + 1):
            await change(gateway, number)
        changed = read_cpu(pid) - before - rest / 100 * (time.monotonic() - began)
        return Row(nodes, ready, live, cold, memory, peak, rest, 1000 * changed / changes)


def fill(server: ApiServer, namespace: str, count: int) -> None:
    """ModelNodes at addresses that nobody has; each serves one of a hundred models."""
    path = f"/apis/weighbridge.dev/v1alpha1/namespaces/{namespace}/modelnodes"

    def create(numbers: range) -> None:
        api = server.connect()
        for number in numbers:
            call(api, "POST", path, describe(number))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(create, (range(start, count, THREADS) for start in range(THREADS))))


def describe(number: int) -> dict[str, Any]:
    host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return {
        "apiVersion": "weighbridge.dev/v1alpha1",
        "kind": "ModelNode",
        "metadata": {"name": f"node-{number:05}", "labels": {"pool": f"pool-{number % 100}"}},
        "spec": {
            "engine": "openai",
            "address": {"host": host if number else "10.255.0.1", "port": 8000},
            "models": [{"name": f"model-{number % 100}"}],
        },
    }


async def change(gateway: Installed, number: int) -> None:
    """Another policy in the last one's place, until a request is treated by it; `make bench-apply` says how soon."""
    gateway.apply("RoutePolicy", f"p-{number}", spec={"match": {"models": [MODEL], "types": ["text"]}})
    gateway.server.request("DELETE", f"{POLICIES.format(gateway.namespace)}/p-{number - 1}")
    began = time.monotonic()
    while not await answers(gateway, f"p-{number}"):
        if time.monotonic() - began > LIMIT:
            raise TimeoutError(f"p-{number}")
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)  # changes come one by one


async def answers(gateway: Installed, policy: str) -> bool:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    with suppress(aiohttp.ClientError):
        async with gateway.http.post(f"http://127.0.0.1:{gateway.port}/v1/chat/completions", json=body) as answer:
            await answer.read()
            return answer.headers.get("x-weighbridge-policy", "").endswith(policy)
    return False


async def is_ready(gateway: Installed) -> bool:
    with suppress(aiohttp.ClientError):
        async with gateway.http.get(f"http://127.0.0.1:{gateway.find_admin('operator-0')}/readyz") as answer:
            return answer.status == 200
    return False


async def wait(began: float, ready: Any) -> float:
    while not await ready():
        if time.monotonic() - began > LIMIT:
            raise TimeoutError("the operator or Envoy did not come up")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def find_pid(gateway: Installed) -> int:
    child = gateway.operators["operator-0"].child
    assert child is not None
    return child.pid


def read_cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_memory(pid: int) -> tuple[float, float]:
    """Resident MB now, and at most."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


if __name__ == "__main__":
    asyncio.run(main())
