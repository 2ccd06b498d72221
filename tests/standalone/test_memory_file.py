"""What a restart goes on from, and work that is kept going."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
import time
from pathlib import Path

import pytest

from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core import ir
from weighbridge_operator.core.tick import Weighed, weigh_pools
from weighbridge_operator.keeping import keep_going
from weighbridge_operator.memory_file import keep_memory, read_memory, write_memory
from weighbridge_operator.state import LoadRound


def endpoint(name: str) -> ir.Endpoint:
    return ir.Endpoint(
        node=f"default/{name}",
        model_node=f"default/{name}",
        engine="vllm",
        address="10.0.0.1",
        port=8000,
        hostname=None,
        base_path="/v1",
        served=(ir.Served("m", None, "m"),),
        tls=None,
        tier="standard",
        capacity=1.0,
        concurrency=None,
        publishes_room=True,
    )


NODES = ("default/a", "default/b", "default/c")
POOL = ir.Pool(
    "p",
    (ir.Part("p", tuple(endpoint(name) for name in "abc"), None, None),),
    ir.Balance("llm", (("kv", 40.0), ("queue", 40.0), ("running", 20.0)), 10.0),
)
GATEWAY = ir.Gateway((POOL,))


def flood(weighed: Weighed, begin: float) -> Weighed:
    """Half a minute in which node a holds forty requests of others."""
    for step in range(15):
        now = begin + 2.0 * step
        samples = {
            node: LoadSample(node, now, waiting=0.0, running=50.0 if node == NODES[0] else 10.0, generated_tokens=now)
            for node in NODES
        }
        load = LoadRound(now, samples, {("p", node): 10 for node in NODES})
        weighed = weigh_pools(GATEWAY, weighed, load, now)
    return weighed


def test_a_restart_goes_on_from_the_last_weights(tmp_path: Path) -> None:
    weighed = flood(Weighed(), 100.0)
    weights = weighed.verdicts["p"].weights
    assert weights[NODES[0]] < weights[NODES[1]]
    path = tmp_path / "state" / "weights.json"
    write_memory(path, weighed)
    again = read_memory(path, 7.0)
    first = weigh_pools(GATEWAY, again, None, 7.5)
    assert dict(first.verdicts["p"].weights) == dict(weights)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"written": "x"}', '{"written": 0, "pools": {"p": 1}}', "\x00"])
def test_a_broken_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(text)
    assert read_memory(path, 1.0) == Weighed()


@pytest.mark.parametrize(
    "text",
    [
        '{"written": 1' + "0" * 400 + ', "pools": {}}',
        '{"written": NOW, "pools": {"p": {"version": 1, "at": 1' + "0" * 400 + ', "nodes": {}}}}',
        '{"written": NOW, "pools": ' + "[" * 100_000,
    ],
    ids=["late", "large", "deep"],
)
def test_a_file_of_impossible_numbers_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(text.replace("NOW", str(time.time())))
    assert read_memory(path, 1.0) == Weighed()


def test_a_remembered_step_off_the_grid_weighs_as_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    write_memory(path, flood(Weighed(), 100.0))
    data = json.loads(path.read_text())
    for step, value in (("u", 10**9), ("s", -(10**9)), ("trim", 10**400)):
        data["pools"]["p"]["nodes"][NODES[0]][step]["value"] = value
    path.write_text(json.dumps(data))
    weights = weigh_pools(GATEWAY, read_memory(path, 7.0), None, 60.0).verdicts["p"].weights
    assert all(1 <= weight <= 65536 for weight in weights.values())


def test_what_a_full_disk_cut_off_is_not_left_behind(tmp_path: Path) -> None:
    weighed = flood(Weighed(), 100.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_memory(tmp_path / "weights.json", weighed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_yesterday_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    write_memory(path, flood(Weighed(), 100.0))
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"written": data["written"] - 86400}))
    assert read_memory(path, 1.0) == Weighed()


async def test_the_last_weights_are_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    weighed = flood(Weighed(), 100.0)
    keeping = asyncio.create_task(keep_memory(path, lambda: weighed))
    await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert read_memory(path, 1.0).memories.keys() == {"p"}


async def test_work_that_fails_starts_anew_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    runs = []

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR):
        await keep_going("counting", work, pause=0.0)
    assert len(runs) == 3
    assert "counting failed" in caplog.text
