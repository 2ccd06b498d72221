"""What a choice per request costs: a route with `precise` beside the same without, Envoy and data plane on one CPU.

The upstream is one more Envoy that answers at once, under the addresses of so many nodes; their pages come from this
process, busy enough to be believed. Where there are two CPUs, Envoy and the data plane share one and everything else is
on the other, so that requests a second are those of one core for both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from overhead import BUSY, MODEL, body, make_upstream, pid_of, place
from support.dataplane import Dataplane
from support.envoy import RealEnvoy, free_port
from support.stack import Stack, node, policy
from wrk import Run, read_cpu, require_wrk, run_wrk, write_script

PAGE = """vllm:num_requests_running{{model_name="m"}} 40
vllm:num_requests_waiting{{model_name="m"}} 0
vllm:kv_cache_usage_perc{{model_name="m"}} 0.4
vllm:prompt_tokens_total{{model_name="m"}} {tokens}
vllm:generation_tokens_total{{model_name="m"}} {tokens}
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One run, and the data plane's CPU microseconds per request."""

    run: Run
    cpu: float


async def serve_pages(running: AsyncExitStack) -> int:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=PAGE.format(tokens=int(time.monotonic() * 1000)))

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    running.push_async_callback(runner.cleanup)
    port = free_port()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    return port


async def start_stack(
    running: AsyncExitStack, nodes: int, upstream: int, pages: int, precise: bool, dataplane: Dataplane
) -> Stack:
    balance = {"precise": precise}
    scrape = {"scrape": [{"port": pages}]}
    objects = [
        node(
            f"n{i}",
            upstream,
            MODEL,
            address={"host": f"127.0.{i // 250}.{i % 250 + 1}", "port": upstream},
            metrics=scrape,
        )
        for i in range(nodes)
    ]
    sockets = (dataplane.socket,) if precise else ()
    return await running.enter_async_context(
        Stack(*objects, policy("p", balance=balance), dataplanes=sockets, debug_headers=False)
    )


async def measure(stack: Stack, script: Path, connections: int, seconds: float, process: int) -> Seen:
    before = read_cpu(process)
    url = f"{stack.url}/v1/chat/completions"
    run = await run_wrk(url, script, connections, seconds, pid_of(stack.envoys[0]))
    return Seen(run, (read_cpu(process) - before) / (run.rate * seconds) * 1e6)


def show(name: str, seen: list[tuple[Seen, Seen]]) -> float:
    median = statistics.median
    busy, alone = [b for b, _ in seen], [a for _, a in seen]
    p50 = median(a.run.p50 for a in alone)
    print(
        f"{name:16}{median(b.run.rate for b in busy):9,.0f}{median(b.run.cpu for b in busy):10.0f}"
        f"{median(b.cpu for b in busy):12.0f}{p50:8.0f}{median(a.run.p99 for a in alone):8.0f}"
    )
    return p50


async def run(options: argparse.Namespace) -> None:
    async with AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        script = write_script(folder / "plain.lua", body(MODEL))
        config = make_upstream(keeps=True)
        config["static_resources"]["listeners"][0]["address"]["socket_address"]["address"] = "0.0.0.0"
        upstream = await running.enter_async_context(RealEnvoy(config))
        port, pages = await upstream.listener_port(), await serve_pages(running)
        dataplane = await running.enter_async_context(Dataplane())
        plain, precise = [
            await start_stack(running, options.nodes, port, pages, asked, dataplane) for asked in (False, True)
        ]
        await dataplane.start(precise.envoys[0].admin_url)
        assert dataplane.process is not None
        process = dataplane.process.pid
        await dataplane.wait_named(options.nodes * 0.9)
        idle, began = read_cpu(process), time.monotonic()
        await asyncio.sleep(3)
        idle = (read_cpu(process) - idle) / (time.monotonic() - began)
        place([pid_of(plain.envoys[0]), pid_of(precise.envoys[0]), process], [pid_of(upstream), os.getpid()])
        seen: dict[Stack, list[tuple[Seen, Seen]]] = {plain: [], precise: []}
        for stack, _ in itertools.product(seen, range(2)):
            await measure(stack, script, BUSY, 1, process)
        for _ in range(options.rounds):
            for stack, told in seen.items():
                busy = await measure(stack, script, BUSY, options.seconds, process)
                told.append((busy, await measure(stack, script, 1, options.seconds, process)))
        print(f"{options.nodes} nodes; without requests the data plane takes {idle:.3f} of a core")
        print(f"{'':16}{'req/s':>9}{'Envoy us':>10}{'dataplane us':>12}{'p50 us':>8}{'p99 us':>8}")
        added = -show("weights alone", seen[plain]) + show("precise", seen[precise])
        print(f"added at p50, one request at a time: {added:.0f} us")
        told = {
            name: value for name, value in (await dataplane.metrics()).items() if "total" in name or "period" in name
        }
        print("\n".join(f"{name} {value:.6g}" for name, value in told.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    require_wrk()
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
