"""What it costs a data plane that others tell it what they send, and it them: `python bench/peer_cost.py`.

So many processes over mutual TLS on loopback, each of which sends so many requests a second to six nodes, each with a
conversation's name and twelve blocks of its beginning; CPU of each, less that of the same work with nobody to tell, in
parts of a core.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

from weighbridge_api.wire import PEER_IDENTITY
from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked, Beginning, Choice, Member
from weighbridge_dataplane.peer_trust import Trust
from weighbridge_dataplane.peers import Peers
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.readings import Texts
from weighbridge_dataplane.records import Levels, Records
from weighbridge_dataplane.words import Hello
from weighbridge_operator.trust.minting import CLIENT, SERVER, issue, make_authority

PORT = 19_700
RATES = (0, 5, 200)  # requests a second of each
SETTLE, LASTS = 5.0, 10.0  # seconds
BLOCKS = 12  # of a beginning


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        print(f"{'processes':>9} {'requests/s':>10} {'words/s':>8} {'heard':>6} {'of a core':>10} {'longest step':>13}")
        for number in (2, 4, 16):
            for rate in RATES:
                (alone, *_), (told, words, heard, late) = measure(folder, 1, rate), measure(folder, number, rate)
                print(
                    f"{number:>9} {rate:>10} {words:>8.0f} {heard:>6.1f} {told - alone:>10.2%} {late * 1e3:>10.1f} ms"
                )


def write(folder: Path) -> None:
    """One certificate for all."""
    now = datetime.now(UTC)
    authority = make_authority(now)
    own = issue(authority, now, SERVER + CLIENT, uris=[PEER_IDENTITY])
    for name, entry in (
        ("ca.crt", authority.certificate_pem),
        ("tls.crt", own.certificate_pem),
        ("tls.key", own.key_pem),
    ):
        (folder / name).write_bytes(entry)


def measure(folder: str, number: int, rate: int) -> tuple[float, ...]:
    """CPU of a process, its words a second, whom it hears, and the longest that its loop stood still."""
    command = (sys.executable, __file__, folder, str(number), str(rate))
    children = [subprocess.Popen((*command, str(which)), stdout=subprocess.PIPE) for which in range(number)]
    told = [json.loads(child.communicate()[0]) for child in children]
    return tuple(map(mean, zip(*told, strict=True)))


async def run(folder: str, number: int, rate: int, which: int) -> None:
    """One data plane, as far as others are concerned."""
    records, pools = Records(), Pools(lambda pool: Chooser(random.random, pool=pool))
    member = [Member(f"10.0.0.{n}:8000", "pool", f"default/n{n}", "vllm") for n in range(6)]
    told = [{"address": each.address, "node": each.node, "engine": each.engine} for each in member]
    pools.tell(Texts({"pool": json.dumps({"nodes": told})}, {}), 0.0)
    pools.choose(("pool",), Asked(), 0.0)  # from now on there is somebody who hears
    own = Hello(random.randbytes(16), random.randbytes(16))
    targets = [("127.0.0.1", PORT + n) for n in range(number)]
    peers = Peers(own, targets, Trust(Path(folder)), pools, records)
    peers.start("127.0.0.1", PORT + which)
    running = asyncio.create_task(peers.run())
    ends, longest, heard = [asyncio.get_running_loop().time() + SETTLE], 0.0, 0
    cpu = frames = 0.0
    for last in (False, True):
        while (now := asyncio.get_running_loop().time()) < ends[-1]:
            if rate:
                peers.note(choose(member), now)
            pause = random.expovariate(rate) if rate else 0.1
            await asyncio.sleep(pause)
            if last:
                longest = max(longest, asyncio.get_running_loop().time() - now - pause)
        if not last:
            heard = peers.measure(Levels()).peers or 0
        cpu, frames = time.process_time() - cpu, records.peer_frames["out"] - frames
        ends.append(ends[-1] + LASTS)
    running.cancel()
    print(json.dumps([cpu / LASTS, frames / LASTS / max(1, number - 1), heard, longest]))


def choose(members: list[Member]) -> Choice:
    """A request's node, by chance."""
    chosen = random.choice(members)
    blocks = tuple(f"{random.getrandbits(32):08x}" for _ in range(BLOCKS))
    begun = Beginning(chosen.address, blocks, f"{random.getrandbits(64):016x}", 256.0 * BLOCKS)
    return Choice(chosen, tokens=300.0, begun=begun)


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(run(sys.argv[1], *map(int, sys.argv[2:])))
    else:
        main()
