"""Which node has read which beginnings of prompts: what was sent there, remembered, and forgotten as a cache forgets.

A prompt's beginning is a chain of block hashes, each of which stands for all before it; a node that was sent the first
k of them need not read those again. A session says more, what was answered since, if it is a conversation (`sessions`).
So does a chain that goes on where one prompt alone had its end: what many have in common ends in no such place, and
counts from GAINED on, or who comes one by one with the same few words would all go to the node that had them first.
All are guesses: nodes say nothing of what they hold, so that memory is kept small.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from weighbridge_dataplane.facts import DEPTHS, Beginning
from weighbridge_dataplane.sessions import GAINED, SESSIONS_KEPT, Sessions, go_on

BLOCKS_KEPT, BLOCKS_KEPT_IN_ALL = 4096, 200_000  # of one node, of all pools (some 80 MB)
HOLDERS = 32  # nodes that are looked for by what they have read; of what more of them have there is nothing to look for


@dataclass(frozen=True, slots=True)
class Found:
    """Of a prompt the tokens that each node need not read, of those that it has any of.

    `trust`: how far it goes on what its session had before, 0 to 1; None where the session is not known here.
    `common`: the node at which all data planes knew the session last; `last`: where it was as known here, if it goes
    on.
    """

    tokens: dict[str, float]
    trust: float | None = None
    common: str | None = None
    last: str | None = None


class Affinity:
    """The memory of one pool, by address."""

    def __init__(self, blocks: int = BLOCKS_KEPT, sessions: int = SESSIONS_KEPT) -> None:
        self._most_blocks = blocks
        self._kept = blocks
        #: Of each node, the one used longest ago first; tokens of the prompt that ended in it, if it may be the one
        #: conversation that had it: no prompt went beyond it, and each was longer than the one before.
        self._blocks: dict[str, OrderedDict[str, float]] = {}
        self._holders: dict[str, set[str]] = {}
        self.sessions = Sessions(sessions)

    def share(self, nodes: int, pools: int) -> None:
        """There are so many nodes now, in so many pools; they share what is kept."""
        self._kept = max(1, min(self._most_blocks, BLOCKS_KEPT_IN_ALL // max(1, nodes)))
        self.sessions.share(pools)

    def count(self, node: str, blocks: Sequence[str]) -> int:
        """How many of the blocks a node has.

        By bisection: a block stands for all before it and was not used later than they, so that who has it has them.
        """
        return bisect_left(blocks, True, key=lambda block: node not in self._holders.get(block, ()))

    def find(self, blocks: Sequence[str], session: str | None, size: float = 0.0, among: Iterable[str] = ()) -> Found:
        """What nodes have of a prompt of `size` tokens: those `among` which one is to be drawn, and who has most of it.

        However many have a part of it, that takes the same time.
        """
        held = blocks[: bisect_left(blocks, True, key=lambda block: block not in self._holders)]
        nodes = dict.fromkeys((*among, *self._search(held))) if held else ()
        found = Found({node: tokens for node in nodes if (tokens := self.measure(node, held, size))})
        if session is None or (last := self.sessions.find(session)) is None:
            return found
        trust = last.weigh(self.count(last.node, held), len(blocks))
        claim = trust * go_on(last.tokens, size) if size >= GAINED else 0.0
        if claim > found.tokens.get(last.node, 0.0):
            found.tokens[last.node] = claim
        return Found(found.tokens, trust, last.common, last.node if trust else None)

    def _search(self, held: Sequence[str]) -> Iterable[str]:
        """Those that have most of these blocks, which somebody has each of."""
        few = bisect_left(held, True, key=lambda block: len(self._holders[block]) <= HOLDERS)
        return islice(self._holders[held[min(few, len(held) - 1)]], HOLDERS)

    def measure(self, node: str, blocks: Sequence[str], size: float) -> float:
        """Tokens of a prompt of `size` that a node has."""
        if not (count := self.count(node, blocks)):
            return 0.0
        common, ended = DEPTHS[count], self._blocks[node][blocks[count - 1]]
        own = go_on(ended, size) if ended and size >= max(ended, GAINED) else 0.0
        return max(float(common) if common >= GAINED else 0.0, own)

    def remember(self, begun: Beginning, told: bool = False, ours: bool = True) -> None:
        """A request went to its node. `told`: all data planes know of it; not `ours`: another one sent it."""
        node, blocks = begun.address, begun.blocks
        if blocks:
            kept = self._blocks.setdefault(node, OrderedDict())
            ended = begun.tokens
            # From the end, so that of a chain the beginning stays longest.
            for block in reversed(blocks):
                before = kept.get(block)
                if before is None:
                    self._holders.setdefault(block, set()).add(node)
                elif not 0.0 < before < ended:
                    ended = 0.0
                kept[block], ended = ended, 0.0
                kept.move_to_end(block)
            while len(kept) > self._kept:
                self._drop(node, kept.popitem(last=False)[0])
        if begun.session is not None:
            self.sessions.remember(begun.session, begun, told, ours)

    def forget(self, nodes: Collection[str]) -> None:
        """These are gone, or have begun anew."""
        if not nodes:
            return
        for node in nodes:
            for block in self._blocks.pop(node, ()):
                self._drop(node, block)
        self.sessions.forget(nodes)

    def _drop(self, node: str, block: str) -> None:
        holders = self._holders[block]
        holders.discard(node)
        if not holders:
            del self._holders[block]
