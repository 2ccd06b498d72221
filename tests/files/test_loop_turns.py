"""What the loop does first when much happens, and whom it asks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from support.stack import node
from weighbridge_metrics.sample import LoadSample
from weighbridge_operator import loop as loops
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.latest import Latest
from weighbridge_operator.loop import Loop
from weighbridge_operator.sources.files import load
from weighbridge_operator.state import EnvoyPlace, EnvoyPlaces, LoadRound, Objects
from weighbridge_operator.xds.envoys import EnvoyState, EnvoyStates
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.snapshot import Snapshot

POOLS = 20


async def test_a_change_does_not_wait_until_every_pool_is_weighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "TURN", 0.0)
    file = tmp_path / "nodes.yaml"
    # Of this engine nothing is asked: every round is this test's.
    nodes = [node(f"n{number:02}", 8000, f"m{number}", engine="openai") for number in range(POOLS)]
    file.write_text(yaml.safe_dump_all(nodes))
    loaded: Latest[Objects] = Latest()
    snapshots: Latest[Snapshot] = Latest()
    loop = Loop(loaded, Latest[EnvoyStates](), snapshots, scope=Scope(), entrance=Entrance(port=1))
    loaded.set(load([file]))
    running = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(10):
            _, first = await snapshots.wait_newer()
        told = LoadRound(1.0, {f"default/n{n:02}": LoadSample(f"default/n{n:02}", 1.0, running=1.0) for n in range(20)})
        loop.rounds.set(told)
        file.write_text(yaml.safe_dump_all([*nodes, node("late", 8000, "new", engine="openai")]))
        loaded.set(load([file]))
        await snapshots.wait_newer(first)
        assert loop.weighed.view.at is None, "the round was weighed before the change was planned"
        for _ in range(100 * POOLS):
            if loop.weighed.view.at is not None:
                break
            await asyncio.sleep(0)
        assert len(loop.weighed.verdicts) == POOLS + 1, "the round was weighed for the objects before"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def test_statistics_are_asked_for_where_the_cluster_says_when_the_envoy_is_not_believed() -> None:
    envoys, places = Latest[EnvoyStates](), Latest[EnvoyPlaces]()
    envoys.set(
        EnvoyStates((EnvoyState("a", None, "", 0.0, doubt="..."), EnvoyState("b", "http://10.0.0.2:9", "", 0.0)))
    )
    places.set({name: EnvoyPlace(f"http://10.0.0.{n}:9", sure=True) for n, name in enumerate("abc", start=1)})
    loop = Loop(Latest(), envoys, Latest(), scope=Scope(), entrance=Entrance(), places=places)
    assert loop._stats_urls() == {name: f"http://10.0.0.{n}:9" for n, name in enumerate("abc", start=1)}
    envoys.set(EnvoyStates((EnvoyState("unknown", None, "", 0.0),)))
    assert loop._stats_urls()["unknown"] is None
