"""Messages made before, by what they are made of: of a thousand clusters a change of one object makes one anew.

Keys are the whole input, so that a memo never changes what is made, only whether it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")


class Memo:
    """What one translation made serves the next; what that does not ask for is forgotten. `turn` begins one."""

    def __init__(self) -> None:
        self._last: dict[Hashable, object] = {}
        self._now: dict[Hashable, object] = {}

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made of this key, or what `make` makes of it now. Keys of unlike things must differ."""
        found = self._now.get(key) or self._last.get(key)
        if found is None:
            found = make()
        self._now[key] = found
        return cast(T, found)

    def turn(self) -> None:
        """A translation begins. At its beginning, so that one that fails half-way leaves nothing to pile up."""
        self._last, self._now = self._now, {}
