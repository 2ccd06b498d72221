"""What was sent to which node since it was told last: added up by address, and how it began, until the next word. Pure.

A word goes out as soon as there is something to tell, but no sooner than the one before it lets: what a hundredth of a
second costs in what others do not know is felt (simulated, others' load, four Envoys: 7 % of p99 between 0.05 s and
0.01 s), and where requests are few so are the words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from weighbridge_dataplane.facts import Beginning, Sent

ADDRESSES = 1_000  # of one word; what goes to more nodes than that within one is not told of
#: Blocks of beginnings in a second, of which what else is said of each counts as so many: 4,300 requests with twelve
#: blocks each. Beyond, and beyond so many of one word, a request's session is told alone, and if it has none, nothing.
BLOCKS, BESIDE, WORD_MOST = 100_000, 12, 8_000
LEAST, FOR_EACH = 0.01, 0.006  # seconds between two words, at least, and for each who is told: 2 % of a core in all


class Outbox:
    """One data plane's. `hearers`: how many are told; `untold` counts what there was no room for."""

    def __init__(self, hearers: int = 0, untold: dict[str, int] | None = None) -> None:
        self.hearers = hearers
        self._untold = Counter[str]() if untold is None else untold
        self._sent: dict[str, list[float]] = {}  # requests, tokens, sum of the moments
        self._begun: list[Beginning] = []
        self._left = self._room
        self._next = float("-inf")

    def put(self, address: str, tokens: float, now: float, begun: Beginning | None = None) -> None:
        """A request with tokens that have to be read was sent there, and what may be told of its beginning."""
        if begun is not None:
            self._note(begun)
        sums = self._sent.get(address)
        if sums is not None:
            sums[0] += 1
            sums[1] += tokens
            sums[2] += now
        elif len(self._sent) < ADDRESSES:
            self._sent[address] = [1, tokens, now]

    @property
    def _pause(self) -> float:
        """Seconds between two words."""
        return max(LEAST, FOR_EACH * self.hearers)

    @property
    def _room(self) -> float:
        return min(BLOCKS * self._pause, WORD_MOST)

    def _note(self, begun: Beginning) -> None:
        if (size := BESIDE + len(begun.blocks)) > self._left:
            alone = begun.session is not None and self._left >= BESIDE
            self._untold["blocks" if alone else "all"] += 1
            if not alone:
                return
            size, begun = BESIDE, replace(begun, blocks=())
        self._begun.append(begun)
        self._left -= size

    def wait(self, now: float) -> float | None:
        """Seconds until the next word may go out; None where there is nothing to tell."""
        return max(0.0, self._next - now) if self._sent else None

    def take(self, now: float) -> tuple[tuple[Sent, ...], tuple[Beginning, ...]]:
        """All of it, and it is empty."""
        sent, self._sent = self._sent, {}
        begun, self._begun, self._left = tuple(self._begun), [], self._room
        self._next = now + self._pause
        told = (
            Sent(address, int(requests), tokens, max(0.0, now - moments / requests))
            for address, (requests, tokens, moments) in sent.items()
        )
        return tuple(told), begun
