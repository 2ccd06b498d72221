"""What a choice of a node costs, in microseconds, by the number of nodes: `python bench/choice_speed.py`.

Pages come meanwhile as they do beside Envoy, four a second and node, at 1,000 choices a second; their own cost is told
apart. Plain Python on one core, no network.
"""

from __future__ import annotations

import time
from random import Random

from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked, Beginning, Counts, Member, Sample

NODES = (6, 24, 1000)
CHOICES = 3_000
RATE = 1_000.0  # choices a second
PERIOD = 0.25  # seconds between two pages of a node
ROUNDS = 2
COMMON = tuple(f"ffff{block:04x}" for block in range(8))


def main() -> None:
    """The best of some rounds, for a machine that does other work as well."""
    print(f"{'nodes':>6} {'Envoys':>6} {'choice':>9} {'blocks':>9} {'page':>9} {'counts':>9}   µs")
    for nodes in NODES:
        for envoys in (1, 4):
            best = [min(times) for times in zip(*(measure(nodes, envoys) for _ in range(ROUNDS)), strict=True)]
            print(f"{nodes:>6} {envoys:>6} " + " ".join(f"{each * 1e6:>9.1f}" for each in best))


def measure(nodes: int, envoys: int) -> tuple[float, float, float, float]:
    """Seconds of a choice, of one with a session and 16 blocks, of a node's page, of Envoy's counts for all nodes.

    Half of the blocks are common to all prompts, and known of every node.
    """
    members = [Member(f"10.0.{n >> 8}.{n & 255}:8000", "pool", f"default/n{n}", "vllm", (), 1.0) for n in range(nodes)]
    chooser, random = Chooser(Random(1).random), Random(2)
    chooser.tell(members, envoys)
    chains = [COMMON + tuple(f"{chain:04x}{block:04x}" for block in range(8)) for chain in range(200)]
    for member in members:
        chooser.hear_begun(Beginning(member.address, COMMON, None, 2_000))
    spent, done = [0.0] * 4, [0] * 4
    now, read, counted = 0.0, 0, -PERIOD
    for number in range(-int(RATE), CHOICES):
        now += 1 / RATE
        if now - counted >= PERIOD:
            counted = now
            page = {member.address: Counts(random.randrange(20), 0, True, number) for member in members}
            began = time.thread_time()
            chooser.count(page, now)
            _add(spent, done, 3, time.thread_time() - began)
        while read < now / PERIOD * nodes:
            running, ended = 90 + random.randrange(9), 10 * now
            begun = ended + running - random.randrange(3)
            tokens = 500 * now, 200 * now, 0.0
            sample = Sample(now, random.random(), random.randrange(3), running, *tokens, begun, ended)
            began = time.thread_time()
            chooser.read(members[read % nodes].address, sample, now)
            _add(spent, done, 2, time.thread_time() - began)
            read += 1
        kind = number % 2
        asked = Asked(2_000, f"s{number % 500}", chains[number % 200]) if kind else Asked(2_000)
        began = time.thread_time()
        choice = chooser.choose(asked, now)
        passed = time.thread_time() - began
        if number >= 0:
            assert choice.member is not None, choice.silence
            _add(spent, done, kind, passed)
    return spent[0] / done[0], spent[1] / done[1], spent[2] / done[2], spent[3] / done[3]


def _add(spent: list[float], done: list[int], which: int, passed: float) -> None:
    spent[which] += passed
    done[which] += 1


if __name__ == "__main__":
    main()
