"""Files are watched by asking again; what is half written is waited for, and what did not change is not told."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from weighbridge_operator.sources.files import Loaded, watch

NODE = """apiVersion: weighbridge.dev/v1alpha1
kind: ModelNode
metadata: {{name: {name}}}
spec:
  engine: vllm
  address: {{host: 10.0.0.1, port: {port}}}
  models: [{{name: m}}]
"""


def node(name: str, port: int = 8000) -> str:
    return NODE.format(name=name, port=port)


def script(steps: Iterator[Callable[[], object]]) -> Callable[[float], Awaitable[None]]:
    """A sleep that does the next step of the script instead, and ends the watch after the last."""

    async def sleep(seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            raise asyncio.CancelledError
        step()

    return sleep


async def collect(path: Path, *steps: Callable[[], object]) -> list[Loaded]:
    found: list[Loaded] = []
    with contextlib.suppress(asyncio.CancelledError):
        async for loaded in watch([path], sleep=script(iter(steps))):
            found.append(loaded)
    return found


def nothing() -> None:
    pass


def ports(found: list[Loaded]) -> list[dict[str, int]]:
    return [{n.metadata.name: n.spec.address.port for n in loaded.desired.nodes} for loaded in found]


async def test_the_first_state_comes_at_once_and_a_touch_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a"))
    found = await collect(tmp_path, nothing, lambda: os.utime(path, (1, 1)), nothing, nothing)
    assert ports(found) == [{"a": 8000}]


async def test_a_file_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a", 1) + "---\n" + node("b", 1))
    found = await collect(
        tmp_path,
        lambda: path.write_text(""),
        lambda: path.write_text(node("a", 2)),
        lambda: path.write_text(node("a", 2) + "---\n" + node("b", 2)),
        nothing,
        nothing,
    )
    assert ports(found) == [{"a": 1, "b": 1}, {"a": 2, "b": 2}]


async def test_a_file_that_never_rests_is_read_after_the_longest_wait(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a", 1))
    found = await collect(tmp_path, *(lambda port=port: path.write_text(node("a", port)) for port in range(2, 40)))
    assert 3 <= len(found) <= 6


async def test_a_file_put_in_the_place_of_another_is_seen(tmp_path: Path) -> None:
    path, other = tmp_path / "a.yaml", tmp_path / "a.new"
    path.write_text(node("a", 1111))
    other.write_text(node("a", 2222))
    was = path.stat()
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    found = await collect(tmp_path, lambda: other.rename(path), nothing, nothing)
    assert ports(found) == [{"a": 1111}, {"a": 2222}]


async def test_a_chmod_lets_a_secret_in(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n")
    path.chmod(0o644)
    found = await collect(tmp_path, lambda: path.chmod(0o600), nothing, nothing)
    assert [len(loaded.desired.secrets) for loaded in found] == [0, 1]


async def test_an_object_that_turns_invalid_is_held_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a", 1))
    found = await collect(
        tmp_path, lambda: path.write_text(node("a", 0)), nothing, lambda: path.write_text(node("a", 3)), nothing
    )
    assert ports(found) == [{"a": 1}, {"a": 1}, {"a": 3}]
    assert [[each.held for each in loaded.rejections] for loaded in found] == [[], [True], []]


async def test_a_directory_that_comes_later_is_found(tmp_path: Path) -> None:
    path = tmp_path / "conf"

    def create() -> None:
        path.mkdir()
        (path / "a.yaml").write_text(node("a"))

    found = await collect(path, create, nothing, nothing)
    assert ports(found) == [{}, {"a": 8000}]


async def test_with_the_real_clock_a_change_arrives(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(node("a", 1))
    states: AsyncIterator[Loaded] = watch([tmp_path])
    async with asyncio.timeout(10):
        await anext(states)
        path.write_text(node("a", 2))
        assert ports([await anext(states)]) == [{"a": 2}]
