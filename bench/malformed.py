"""Promise F9: malformed requests of every endpoint get no 5xx, crash nothing, take under 50 ms, and leave no memory.

`make bench-malformed` runs it: the whole generated gateway on a real Envoy with one worker, a node that keeps whatever
reaches it (nothing may), requests drawn from a seed. Memory is what is resident, read every thousand requests.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from itertools import islice

from support.losses import Figure
from support.malformed import draw, make_nodes
from support.onslaught import Outcome, read_memory, send_all
from support.stack import Stack
from support.witness import Witness

PROMISED_MS = 50.0
GROWTH_MIB = 32  # after the first tenth


async def measure(count: int = 10_000, seed: int = 1) -> Figure:
    """Sends them; "lost" is what was not answered as it should be, or reached a node."""
    outcome, step = Outcome(), max(1, count // 10)
    async with Witness() as witness, Stack(*make_nodes(witness.port)) as stack:
        requests, memory = draw(seed, count), [read_memory(stack)]
        for _ in range(10):
            await send_all(stack, islice(requests, step), outcome)
            memory.append(read_memory(stack))
            print(f"\r\x1b[K{len(outcome.seconds):,} sent, {memory[-1] >> 20} MiB", end="", file=sys.stderr, flush=True)
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        process = stack.envoys[0].process
        alive = process is not None and process.returncode is None
        reached = len(witness.heard)
    seconds = sorted(outcome.seconds)
    by_status = Counter[int]()
    for (_, status), number in outcome.statuses.items():
        by_status[status] += number
    told = {
        "faults": len({about for about, _ in outcome.statuses}),
        "answers": dict(sorted(by_status.items())),
        "reached_a_node": reached,
        "envoy_lives": alive,
        "p50_ms": round(seconds[len(seconds) // 2] * 1e3, 1),
        "worst_ms": round(outcome.worst[0] * 1e3, 1),
        "worst": outcome.worst[1],
        "memory_mib": [each >> 20 for each in memory],
        "odd": outcome.odd[:10],
    }
    return Figure("malformed requests", len(seconds), len(outcome.odd) + reached, told)


def held(figure: Figure) -> bool:
    """Whether F9 was kept."""
    told = figure.told
    grown = told["memory_mib"][-1] - told["memory_mib"][1]
    return not figure.lost and told["envoy_lives"] and told["worst_ms"] < PROMISED_MS and grown <= GROWTH_MIB


def show(figure: Figure) -> None:
    """A line for each thing that was measured."""
    print(f"{figure.asked:,} requests, {figure.lost} not as they should be")
    for name, value in figure.told.items():
        print(f"  {name.replace('_', ' ')}: {value}")
    print(f"F9 {'holds' if held(figure) else 'MISSED'}")


def main() -> int:
    """0 if the promise holds, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    figure = asyncio.run(measure(given.count, given.seed))
    show(figure)
    return 0 if held(figure) else 1


if __name__ == "__main__":
    sys.exit(main())
