"""The data planes of an Envoy's pod, run here by what the chart says: both are asked, one that dies costs nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.charts import pick, render
from support.dataplane_scene import DataplaneScene
from support.envoy import free_port
from support.mounted import NOW, Mounted, side
from support.scene import MODEL, Process, wait_for
from weighbridge_api.wire import PEER_IDENTITY
from weighbridge_operator.trust.minting import CLIENT, SERVER, issue, make_authority

pytestmark = pytest.mark.envoy
SOCKETS, STATS, ADMIN = "/run/weighbridge", "9902", "9901"
PEERS, SERVICE = "/peers", "weighbridge-peers.weighbridge.svc"
Json = dict[str, Any]


class Pod(DataplaneScene):
    """Envoy and its data planes, started by the flags of the chart; where they are is all that is changed."""

    def __init__(self) -> None:
        super().__init__()
        self.precise = True
        spec = pick(render("--set=dataplane.enabled=true,dataplane.processes=2"), "Deployment", "weighbridge-envoy")[
            "spec"
        ]["template"]["spec"]
        self._bootstrap, *self._sidecars = spec["initContainers"]
        (envoy,) = spec["containers"]
        self._ports = {ADMIN: self.envoy_admin, STATS: free_port()}
        self.dataplanes: dict[str, Process] = {}
        self.listening: dict[str, str] = {}
        given = envoy["args"][envoy["args"].index("--drain-time-s") :]
        self.envoy_flags = tuple(flag for flag in given if flag != "--disable-hot-restart")  # the scene says so, too

    def place(self, container: Json) -> list[tuple[str, str]]:
        """Its flags, with paths, names and ports of this machine."""
        flags = []
        for flag in container["args"][1 if container is self._bootstrap else 0 :]:
            name, _, value = flag.partition("=")
            value = value.replace(SOCKETS, str(self.folder)).replace("$(POD_IP)", "127.0.0.1")
            value = value.replace(SERVICE, "127.0.0.1").replace(PEERS, str(self.folder / "peers"))
            value = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: str(self._move(port[0])), value)
            flags.append((name, value))
        return flags

    def _move(self, port: str) -> int:
        return self._ports.setdefault(port, free_port())

    def bootstrap_flags(self) -> tuple[str, ...]:
        given = [f"{name}={value}" for name, value in self.place(self._bootstrap)]
        ours = [flag for flag in given if flag.startswith(("--dataplane-socket=", "--stats="))]
        assert len(ours) == 3
        return (*super(DataplaneScene, self).bootstrap_flags(), *ours)

    async def start_all(self) -> None:
        own = make_authority(NOW)
        Mounted(self.folder / "peers").put(side(issue(own, NOW, SERVER + CLIENT, uris=[PEER_IDENTITY]), own))
        for container in self._sidecars:
            flags = self.place(container)
            name = container["name"]
            self.listening[name] = dict(flags)["--listen"]
            # The path of the interpreter is the image's.
            command = (sys.executable, *container["command"][1:], *(f"{key}={value}" for key, value in flags))
            process = self.dataplanes[name] = Process(*command, log=self.folder / f"{name}.log")
            await process.start()
            self._running.push_async_callback(self._end, process)

    async def _end(self, process: Process) -> None:
        # The keeper ends what it keeps.
        if process.child is not None and process.child.returncode is None:
            process.send(signal.SIGTERM)
            await process.child.wait()

    async def count(self, name: str, what: str = "named_total") -> float:
        """Requests of which it has named the node; or another of its numbers."""
        async with self.http.get(f"http://{self.listening[name]}/metrics") as got:
            lines = (await got.text()).splitlines()
        named = [line for line in lines if re.match(rf"weighbridge_dataplane_{what}\b", line)]
        return sum(float(line.rpartition(" ")[2]) for line in named)

    async def ask(self, count: int) -> tuple[Counter[int], int]:
        """Requests one after another: their statuses, and how many had their node named."""
        statuses, named = Counter[int](), 0
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        for _ in range(count):
            async with self.http.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                await answer.read()
                statuses[answer.status] += 1
                named += answer.headers.get("x-weighbridge-choice") == "precise"
        return statuses, named

    def find_kept(self, name: str) -> int:
        """The process id of the data plane that a keeper keeps."""
        keeper = self.dataplanes[name].child
        assert keeper is not None
        children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
        return int(children[0])


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    made = Pod()
    async with made:
        await made.start_all()
        yield made


async def test_both_are_asked_and_one_that_is_killed_costs_no_request(pod: Pod) -> None:
    one, two = pod.dataplanes

    async def both_name() -> bool:
        await pod.ask(4)
        try:
            return min(await pod.count(one), await pod.count(two)) > 0
        except aiohttp.ClientError:
            return False

    await wait_for(both_name, 60.0)
    before = [await pod.count(one), await pod.count(two)]
    statuses, _ = await pod.ask(100)
    got = [now - then for now, then in zip([await pod.count(one), await pod.count(two)], before, strict=True)]
    assert statuses == {200: 100}
    assert min(got) >= 20, got  # in turn; on a busy machine some time out
    first = pod.find_kept(one)
    os.kill(first, signal.SIGKILL)
    statuses, named = await pod.ask(200)
    assert statuses == {200: 200}
    assert named >= 80  # by the other, which is asked in turn until Envoy has noticed; on a busy machine some time out

    async def is_back() -> bool:
        try:
            return pod.find_kept(one) != first and await pod.count(one) > 0
        except (aiohttp.ClientError, IndexError):
            return False
        finally:
            await pod.ask(2)
            await asyncio.sleep(0.05)

    await wait_for(is_back, 60.0)


async def test_both_tell_each_other_what_they_send(pod: Pod) -> None:
    one, two = pod.dataplanes

    async def hear_each_other() -> bool:
        try:
            return [await pod.count(name, what) for name in (one, two) for what in ("peers", "peers_told")] == [1] * 4
        except aiohttp.ClientError:
            return False

    await wait_for(hear_each_other, 60.0)
    assert [await pod.count(name, "peer_envoys") for name in (one, two)] == [0, 0], "they stand beside the same Envoy"
    before = await pod.count(two, "peer_frames_total")

    async def is_told() -> bool:
        await pod.ask(4)
        return await pod.count(one) > 0 and await pod.count(two, "peer_frames_total") > before + 8

    await wait_for(is_told, 60.0)
