"""Data planes beside several Envoys, as processes over real TLS: who is heard, who is not, and what that costs."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.dataplane import Dataplane
from support.envoy import free_port
from support.fake_envoy import FakeEnvoy, ask
from support.mounted import Mounted, authority, side
from weighbridge_api.wire import PEER_IDENTITY
from weighbridge_dataplane.cli import main
from weighbridge_operator.trust.minting import CLIENT, SERVER, Pair, issue
from weighbridge_operator.trust.rotation import envoy_identity

POLICY = json.dumps({"clusters": ["p"]})
PEERS, ENVOYS, TOLD = (f"weighbridge_dataplane_{name}" for name in ("peers", "peer_envoys", "peers_told"))


def leaf(of: Pair, name: str = PEER_IDENTITY, life: float = 86400) -> Pair:
    return issue(of, datetime.now(UTC), SERVER + CLIENT, uris=[name], life=timedelta(seconds=life))


class Gateway:
    """Envoys that are none, each with a data plane; `start(0)` starts the first one's."""

    def __init__(self, folder: Path, stack: AsyncExitStack, number: int) -> None:
        self._stack = stack
        self.authority = authority()
        self.ports = [free_port() for _ in range(number)]
        self.mounts = [Mounted(folder / f"tls-{which}") for which in range(number)]
        self.dataplanes: list[Dataplane] = []
        self.envoys: list[FakeEnvoy] = []

    async def open(self) -> None:
        for mount in self.mounts:
            mount.put(side(leaf(self.authority), self.authority))
            first = self.envoys[0] if self.envoys else None
            self.envoys.append(await self._stack.enter_async_context(FakeEnvoy(3, of=first)))
            self.dataplanes.append(await self._stack.enter_async_context(Dataplane()))

    async def start(self, *which: int, beside: int | None = None, flags: tuple[str, ...] = ()) -> None:
        for each in which:
            peers = (flag for port in self.ports for flag in ("--peer", f"127.0.0.1:{port}"))
            await self.dataplanes[each].start(
                f"http://127.0.0.1:{self.envoys[each if beside is None else beside].port}",
                *("--peer-listen", f"127.0.0.1:{self.ports[each]}", "--peer-tls", str(self.mounts[each].directory)),
                *peers,
                *flags,
            )

    async def tell(self, which: int, name: str) -> float:
        return (await self.dataplanes[which].metrics()).get(name, -1.0)

    async def wait(self, which: int, limit: float = 15.0, **wanted: float) -> None:
        """Until its metrics are these."""

        async def holds() -> bool:
            told = await self.dataplanes[which].metrics()
            return all(told.get(f"weighbridge_dataplane_{name}") == value for name, value in wanted.items())

        await wait_until(holds, limit)

    async def name(self, which: int, policy: str = POLICY, **headers: str) -> str:
        """The node that it names for a request."""
        async with asyncio.timeout(20):
            while True:
                answer = await ask(self.dataplanes[which].socket, policy, **headers)
                if answer is not None and answer.dynamic_metadata.fields:
                    return str(answer.dynamic_metadata["weighbridge.choice"]["node"])


async def wait_until(holds: Callable[[], Awaitable[bool]], limit: float) -> None:
    async with asyncio.timeout(limit):
        while not await holds():  # noqa: ASYNC110  other processes tell nobody
            await asyncio.sleep(0.05)


@asynccontextmanager
async def gateway(folder: Path, number: int) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        made = Gateway(folder, stack, number)
        await made.open()
        yield made


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path, 2) as made:
        yield made


async def test_what_one_sends_the_other_counts_at_once(two: Gateway) -> None:
    await two.start(0, 1)
    for which in (0, 1):
        await two.wait(which, peers=1, peer_envoys=1, peers_told=1)
        await two.dataplanes[which].wait_named(3)

    async def look() -> float:
        """How full the second one takes the nodes for, all together."""
        await two.name(1)
        (last,) = await two.dataplanes[1].choices("last=1")
        return sum(float(each["fill"]) for each in last["candidates"])

    alone = []
    for _ in range(5):
        await asyncio.sleep(0.6)  # pages are read meanwhile: nothing was sent since
        alone.append(await look())

    async def is_fuller() -> bool:
        for _ in range(3):
            await two.name(0)
        return await look() > max(alone) + 0.001

    await wait_until(is_fuller, 20)
    told = await two.dataplanes[1].metrics()
    assert told['weighbridge_dataplane_peer_frames_total{way="in"}'] > 3
    assert told['weighbridge_dataplane_peer_frames_total{way="out"}'] > 3
    assert sum(value for name, value in told.items() if "peer_refusals" in name) == 0


@pytest.mark.parametrize("shared", [True, False])
async def test_how_a_prompt_begins_is_told_where_all_name_it_alike(two: Gateway, shared: bool) -> None:
    await two.start(0, 1)
    for which in (0, 1):
        await two.wait(which, peers=1, peer_envoys=1, peers_told=1)
        await two.dataplanes[which].wait_named(3)
    policy = json.dumps({"clusters": ["p"], "shared": shared})
    begins = ".".join(f"{number:08x}" for number in range(12))
    await two.name(1)  # who was never asked for these nodes remembers nothing of them
    node = await two.name(0, policy, content_length="13000", x_weighbridge_blocks=begins)
    frames = 'weighbridge_dataplane_peer_frames_total{way="in"}'
    before = await two.tell(1, frames)

    async def is_told() -> bool:
        return await two.tell(1, frames) >= before + 2  # signs of life, of which the second came after the word

    await wait_until(is_told, 10)
    await two.name(1, policy, content_length="13000", x_weighbridge_blocks=begins)
    (last,) = await two.dataplanes[1].choices("last=1")
    found = {each["address"]: each["hit"] for each in last["candidates"] if each["hit"]}
    assert list(found) == ([node] if shared else [])


async def test_who_is_killed_or_stands_still_is_not_heard_and_comes_back(two: Gateway) -> None:
    await two.start(0, 1)
    await two.wait(0, peers=1, peers_told=1)
    for end in (signal.SIGKILL, signal.SIGSTOP):
        process = two.dataplanes[1].process
        assert process is not None
        process.send_signal(end)
        await two.wait(0, limit=4, peers=0, peer_envoys=0)
        began = time.monotonic()
        await two.name(0)
        assert time.monotonic() - began < 10
        if end == signal.SIGKILL:
            await process.wait()
            await two.start(1)
        else:
            process.send_signal(signal.SIGCONT)
        await two.wait(0, limit=20, peers=1, peer_envoys=1, peers_told=1)
    await two.wait(1, limit=20, peers=1, peers_told=1)


@pytest.mark.parametrize("wrong", ["authority", "name", "none"])
async def test_a_stranger_is_not_heard_and_nothing_else_happens(two: Gateway, wrong: str) -> None:
    match wrong:
        case "authority":
            other = authority()
            two.mounts[1].put(side(leaf(other), other))
        case "name":
            two.mounts[1].put(side(leaf(two.authority, envoy_identity("weighbridge")), two.authority))
        case _:
            two.mounts[1].put({})
    await two.start(0, 1)
    if wrong != "none":

        async def refused() -> bool:
            return await two.tell(0, 'weighbridge_dataplane_peer_refusals_total{reason="certificate"}') > 0

        await wait_until(refused, 15)
    await asyncio.sleep(0.5)
    for which in (0, 1):
        assert [await two.tell(which, name) for name in (PEERS, ENVOYS, TOLD)] == [0, 0, 0]
        await two.name(which)
    two.mounts[1].put(side(leaf(two.authority), two.authority))
    await two.wait(0, limit=40, peers=1, peers_told=1)


async def test_an_authority_is_replaced_while_they_speak(two: Gateway) -> None:
    await two.start(0, 1)
    await two.wait(0, peers=1, peers_told=1)
    new = authority()
    steps = (
        [side(leaf(two.authority), two.authority, new)] * 2,
        [side(leaf(new), two.authority, new), side(leaf(two.authority), two.authority, new)],
        [side(leaf(new), new)] * 2,
    )
    for step in steps:
        before = [await two.tell(which, 'weighbridge_dataplane_peer_frames_total{way="in"}') for which in (0, 1)]
        for mount, entries in zip(two.mounts, step, strict=True):
            mount.put(entries)
        await asyncio.sleep(3)
        for which in (0, 1):
            await two.wait(which, limit=30, peers=1, peers_told=1)
            assert await two.tell(which, 'weighbridge_dataplane_peer_frames_total{way="in"}') > before[which]


async def test_a_certificate_that_expires_is_good_no_longer(two: Gateway) -> None:
    two.mounts[1].put(side(leaf(two.authority, life=6), two.authority))
    await two.start(0, 1)
    await two.wait(0, limit=6, peers=1)
    await two.wait(0, limit=15, peers=0, peers_told=0)
    assert await two.tell(0, 'weighbridge_dataplane_peer_refusals_total{reason="certificate"}') > 0


async def test_of_three_that_stand_beside_two_envoys_one_envoy_more_is_heard(tmp_path: Path) -> None:
    async with gateway(tmp_path, 3) as three:
        both = ("--peer-processes", "2")
        await three.start(0)
        await three.start(1, flags=both)
        await three.wait(0, peers=1, peer_envoys=0)
        await three.start(2, beside=1, flags=both)
        await three.wait(0, peers=2, peer_envoys=1, peers_told=2)
        await three.wait(1, peers=2, peer_envoys=1, peers_told=2)


async def test_one_that_is_alone_finds_itself(tmp_path: Path) -> None:
    async with gateway(tmp_path, 1) as alone:
        await alone.start(0)
        await asyncio.sleep(2)
        told = await alone.dataplanes[0].metrics()
        assert [told[name] for name in (PEERS, ENVOYS, TOLD)] == [0, 0, 0]
        assert sum(value for name, value in told.items() if "peer_refusals" in name) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--peer", "127.0.0.1:1"], "give both, or none"),
        (["--peer-listen", "127.0.0.1:1"], "give both, or none"),
        (["--peer-tls", "/x"], "give --peer-listen and --peer, too"),
        (["--peer", "a:1", "--peer-listen", "0.0.0.0:1"], "give --peer-tls, or listen on 127.0.0.1"),
        (["--peer", "a", "--peer-listen", "127.0.0.1:1"], "'a' is no name and port like peers.example:9940"),
        (["--peer", "a:1", "--peer-listen", "192.0.2.1:1", "--peer-tls", "/x"], "cannot listen for peers on"),
    ],
)
def test_a_mistake_is_one_line(flags: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["--socket", "x", *flags])
    except SystemExit as end:
        code = int(str(end.code))
    assert code == 2
    assert said in capfd.readouterr().err.splitlines()[-1]


async def test_an_address_to_which_no_way_leads_is_no_refused_certificate(two: Gateway) -> None:
    """That of a pod that is gone, for example; both addresses are tried from the start."""
    await two.start(0, 1, flags=("--peer", "255.255.255.255:9"))
    for which in (0, 1):
        await two.wait(which, peers=1, peer_envoys=1)
        assert await two.tell(which, 'weighbridge_dataplane_peer_refusals_total{reason="certificate"}') <= 0
