"""Messages made before, by what they are made of: of a thousand clusters a change of one object makes one anew.

A name finds what was made last, and its whole input says whether that holds, so that a memo never changes what is made,
only whether it is made again. Inputs are compared, not hashed: what did not change is mostly the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")


class Memo:
    """What one translation made serves the next; what that does not ask for is forgotten. `turn` begins one."""

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[object, object]] = {}
        self._now: dict[Hashable, tuple[object, object]] = {}

    def recall(self, name: Hashable, given: object, make: Callable[[], T]) -> T:
        """What was made under this name of what is `given`, or what `make` makes of it now."""
        found = self._now.get(name) or self._last.get(name)
        if found is None or found[0] != given:
            found = (given, make())
        self._now[name] = found
        return cast(T, found[1])

    def turn(self) -> None:
        """A translation begins. At its beginning, so that one that fails half-way leaves nothing to pile up."""
        self._last, self._now = self._now, {}
