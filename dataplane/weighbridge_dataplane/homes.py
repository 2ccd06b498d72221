"""Where conversations are at home, so that data planes which share no memory send one to the same node. Pure.

A ring of points, as many of each node as its capacity says; a conversation is at home where the next point behind its
own is. Who leaves or comes moves only the conversations at its own points.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from hashlib import blake2b

from weighbridge_dataplane.facts import Member

POINTS, LEAST_POINTS = 64, 4  # of a node of usual capacity, where nodes are few and where they are many
ALL_POINTS = 4096  # beyond which nodes get fewer: a change of nodes must not hold requests up
FARTHEST = 4  # times the usual capacity


class Homes:
    """The ring of one pool."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[int, ...]] = {}
        self._at: list[int] = []
        self._address: list[str] = []

    def tell(self, members: Sequence[Member]) -> None:
        """The nodes now."""
        rooms = [member.capacity or 0.0 for member in members]
        usual = sum(rooms) / len(rooms) if rooms and all(rooms) else 0.0
        each = max(LEAST_POINTS, min(POINTS, ALL_POINTS // max(1, len(members))))
        known, self._known = self._known, {}
        for member, room in zip(members, rooms, strict=True):
            number = max(1, round(each * min(FARTHEST, room / usual))) if usual else each
            key = (member.address, number)
            self._known[key] = known.get(key) or tuple(_place(f"{member.address} {i}") for i in range(number))
        ring = sorted((at, address) for (address, _), points in self._known.items() for at in points)
        self._at, self._address = [at for at, _ in ring], [address for _, address in ring]

    def find(self, session: str) -> str | None:
        """The address where a conversation is at home."""
        if not self._at:
            return None
        return self._address[bisect(self._at, _place(session)) % len(self._at)]


def _place(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
