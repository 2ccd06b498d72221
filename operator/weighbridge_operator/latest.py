"""A cell, not a queue: it keeps one value, and whoever is slow sees the newest and never the backlog.

Versions count the sets, so a reader that remembers the last version it saw can wait for anything newer; several readers
wait independently. For one event loop: from another thread use `loop.call_soon_threadsafe(cell.set, value)`.
"""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The newest value of one kind; version 0 means that nothing was ever set."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._version = 0
        self._changed = asyncio.Event()

    @property
    def version(self) -> int:
        return self._version

    def set(self, value: T) -> int:
        """Replaces the value and wakes every waiter; answers the new version."""
        self._value = value
        self._version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return self._version

    def get(self) -> T | None:
        """The newest value; None before the first."""
        return self._value

    async def wait_newer(self, version: int = 0) -> tuple[T, int]:
        """Waits for a value newer than `version` and answers the newest there is, with its version."""
        while self._version <= version:
            await self._changed.wait()
        return self._value, self._version  # type: ignore[return-value]  # a version above 0 means that set() ran
