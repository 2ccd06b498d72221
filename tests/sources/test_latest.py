"""The cell keeps the newest value, coalesces, and wakes every reader."""

from __future__ import annotations

import asyncio

import pytest

from weighbridge_operator.latest import Latest


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_empty_cell_has_no_value_and_makes_its_reader_wait() -> None:
    cell: Latest[int] = Latest()
    assert cell.get() is None
    assert cell.version == 0
    waiting = asyncio.create_task(cell.wait_newer())
    await settle()
    assert not waiting.done()
    cell.set(7)
    assert await waiting == (7, 1)


async def test_a_slow_reader_sees_the_newest_and_not_the_backlog() -> None:
    cell: Latest[int] = Latest()
    for value in range(10):
        cell.set(value)
    value, version = await cell.wait_newer(3)
    assert (value, version) == (9, 10)
    behind = asyncio.create_task(cell.wait_newer(version))
    await settle()
    assert not behind.done()
    cell.set(10)
    cell.set(11)
    assert await behind == (11, 12)


async def test_every_reader_is_woken_by_one_set() -> None:
    cell: Latest[str] = Latest()
    readers = [asyncio.create_task(cell.wait_newer()) for _ in range(3)]
    await settle()
    cell.set("news")
    assert await asyncio.gather(*readers) == [("news", 1)] * 3


async def test_none_is_a_value_like_any_other() -> None:
    cell: Latest[int | None] = Latest()
    cell.set(None)
    assert await asyncio.wait_for(cell.wait_newer(), 1) == (None, 1)


async def test_a_cancelled_reader_leaves_the_others_waiting() -> None:
    cell: Latest[int] = Latest()
    gone, stays = (asyncio.create_task(cell.wait_newer()) for _ in range(2))
    await settle()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    cell.set(1)
    assert await stays == (1, 1)
