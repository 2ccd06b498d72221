"""What a choice per request costs: a route with `precise` beside the same without, Envoy and data plane on one CPU.

Beside them a bare route of the same Envoy, and a route without `precise` in a gateway that has one with it.

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

from overhead import BUSY, MODEL, body, make_bare, make_upstream, pid_of, place
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


OTHER = "llama3.1-8b"  # which no policy is for


@dataclass(frozen=True, slots=True)
class Variant:
    """What is measured: where it is asked, with which script, and the Envoy that serves it."""

    name: str
    url: str
    script: Path
    envoy: int


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
            models=[{"name": MODEL}, {"name": OTHER}],
            address={"host": f"127.0.{i // 250}.{i % 250 + 1}", "port": upstream},
            metrics=scrape,
        )
        for i in range(nodes)
    ]
    sockets = (dataplane.socket,) if precise else ()
    return await running.enter_async_context(
        Stack(
            *objects,
            policy("p", match={"models": [MODEL]}, balance=balance),
            dataplanes=sockets,
            debug_headers=False,
        )
    )


def list_variants(folder: Path, bare: tuple[str, int], plain: Stack, precise: Stack) -> list[Variant]:
    script = write_script(folder / "plain.lua", body(MODEL))
    other = write_script(folder / "other.lua", body(OTHER))
    without, beside = (f"{stack.url}/v1/chat/completions" for stack in (plain, precise))
    return [
        Variant("bare Envoy", bare[0], script, bare[1]),
        Variant("weights alone", without, script, pid_of(plain.envoys[0])),
        Variant("beside precise", beside, other, pid_of(precise.envoys[0])),
        Variant("precise", beside, script, pid_of(precise.envoys[0])),
    ]


async def measure(variant: Variant, connections: int, seconds: float, process: int) -> Seen:
    before = read_cpu(process)
    run = await run_wrk(variant.url, variant.script, connections, seconds, variant.envoy)
    return Seen(run, (read_cpu(process) - before) / (run.rate * seconds) * 1e6)


async def measure_all(
    variants: list[Variant], options: argparse.Namespace, process: int
) -> dict[Variant, list[tuple[Seen, Seen]]]:
    """Round by round each variant under load and with one request at a time, after a second of warming up."""
    seen: dict[Variant, list[tuple[Seen, Seen]]] = {variant: [] for variant in variants}
    for variant, _ in itertools.product(variants, range(2)):
        await measure(variant, BUSY, 1, process)
    for _ in range(options.rounds):
        for variant, told in seen.items():
            busy = await measure(variant, BUSY, options.seconds, process)
            told.append((busy, await measure(variant, 1, options.seconds, process)))
    return seen


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
        direct = await running.enter_async_context(RealEnvoy(make_bare(port)))
        bare = f"http://127.0.0.1:{await direct.listener_port()}/v1/chat/completions", pid_of(direct)
        variants = list_variants(folder, bare, plain, precise)
        place([*{each.envoy for each in variants}, process], [pid_of(upstream), os.getpid()])
        seen = await measure_all(variants, options, process)
        print(f"{options.nodes} nodes; without requests the data plane takes {idle:.3f} of a core")
        print(f"{'':16}{'req/s':>9}{'Envoy us':>10}{'dataplane us':>12}{'p50 us':>8}{'p99 us':>8}")
        p50 = {variant.name: show(variant.name, told) for variant, told in seen.items()}
        more, most = p50["precise"] - p50["weights alone"], p50["precise"] - p50["bare Envoy"]
        print(f"added at p50, one request at a time: {more:.0f} us, to a bare Envoy {most:.0f} us")
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
