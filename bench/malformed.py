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

from support.malformed import draw, make_nodes
from support.onslaught import Outcome, read_memory, send_all
from support.stack import Stack
from support.witness import Witness

PROMISED = 0.050  # seconds
GROWTH = 32 << 20  # bytes, after the first tenth


async def run(count: int, seed: int) -> bool:
    """Prints what came of it; whether the promise holds."""
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
    late = sum(1 for each in seconds if each >= PROMISED)
    by_status = Counter[int]()
    for (_, status), number in outcome.statuses.items():
        by_status[status] += number
    print(f"{len(seconds):,} requests of {len({about for about, _ in outcome.statuses})} faults, seed {seed}")
    print("answers: " + ", ".join(f"{number:,} x {status}" for status, number in sorted(by_status.items())))
    print(f"not as they should be: {len(outcome.odd)}; reached a node: {reached}; Envoy {'lives' if alive else 'DIED'}")
    print(
        f"time: p50 {seconds[len(seconds) // 2] * 1e3:.1f} ms, p99 {seconds[-len(seconds) // 100] * 1e3:.1f} ms, ",
        end="",
    )
    print(f"worst {outcome.worst[0] * 1e3:.1f} ms ({outcome.worst[1]}); {late} took {PROMISED * 1e3:.0f} ms or more")
    print("memory: " + ", ".join(f"{each >> 20}" for each in memory) + " MiB")
    for line in outcome.odd[:10]:
        print("  " + line)
    grown = memory[-1] - memory[1]
    holds = not outcome.odd and not reached and alive and late == 0 and grown <= GROWTH
    print(f"F9 {'holds' if holds else 'MISSED'}")
    return holds


def main() -> int:
    """0 if the promise holds, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return 0 if asyncio.run(run(given.count, given.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
