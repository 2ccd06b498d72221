"""The nodes that may be named now, and draws of some of them in proportion to their room.

Where several choose at once from the same samples, each that looks at all finds the same one; and where there are many
nodes a look at all of them costs too much. By bisection many nodes cost no more than few.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from weighbridge_dataplane.standing import Standing

TRIES = 2  # for each node that is wanted: one that was drawn already counts for nothing


class Draws:
    """`random` gives numbers from 0 to below 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.nodes: tuple[Standing, ...] = ()
        self._rooms: list[float] | None = None

    def tell(self, nodes: Sequence[Standing]) -> None:
        """The nodes now, all of them."""
        self.nodes = tuple(nodes)
        self._rooms = _add_up(self.nodes)

    def draw(self, number: int) -> dict[str, Standing]:
        """Up to so many, each once, by address; all of them where there are no more."""
        if number >= len(self.nodes):
            return {node.member.address: node for node in self.nodes}
        drawn: dict[str, Standing] = {}
        for _ in range(TRIES * number):
            node = self._draw_one()
            drawn[node.member.address] = node
            if len(drawn) == number:
                break
        return drawn

    def _draw_one(self) -> Standing:
        return _draw(self.nodes, self._rooms, self._random)


def draw_one(nodes: Sequence[Standing], random: Callable[[], float]) -> Standing:
    """One of these, in proportion to their room; `random` gives numbers from 0 to below 1."""
    return _draw(nodes, _add_up(nodes), random)


def _add_up(nodes: Sequence[Standing]) -> list[float] | None:
    """Capacities, added up; None where not every node has one."""
    rooms = [node.member.capacity or 0.0 for node in nodes]
    return list(accumulate(rooms)) if rooms and all(rooms) else None


def _draw(nodes: Sequence[Standing], rooms: list[float] | None, random: Callable[[], float]) -> Standing:
    if rooms is None:
        return nodes[int(random() * len(nodes))]
    return nodes[min(bisect_right(rooms, random() * rooms[-1]), len(nodes) - 1)]
