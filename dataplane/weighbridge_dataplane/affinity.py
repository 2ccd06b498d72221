"""Which node has read which beginnings of prompts: what was sent there, remembered, and forgotten as a cache forgets.

A prompt's beginning is a chain of block hashes, each of which stands for all before it; a node that was sent the first
k of them need not read those again. A session is the same without a look at the prompt: its last node has read what its
last request held and what it wrote since. Both are guesses: nodes say nothing of what they hold, so that memory is kept
small.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

BLOCK = 256  # tokens of a block of 1,024 bytes
BLOCKS_KEPT, BLOCKS_KEPT_IN_ALL = 4096, 200_000  # of one node, of a pool (some 80 MB)
SESSIONS_KEPT = 20_000
ANSWERED = 0.5  # of what a turn adds to a conversation; the rest is asked


class Affinity:
    """The memory of one pool, by address."""

    def __init__(self, blocks: int = BLOCKS_KEPT, sessions: int = SESSIONS_KEPT) -> None:
        self._most_blocks, self._most_sessions = blocks, sessions
        self._kept = blocks
        self._blocks: dict[str, OrderedDict[str, None]] = {}  # of each node, the one used longest ago first
        self._holders: dict[str, set[str]] = {}
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def tell(self, nodes: int) -> None:
        """There are so many nodes now; they share what is kept in all."""
        self._kept = max(1, min(self._most_blocks, BLOCKS_KEPT_IN_ALL // max(1, nodes)))

    def find(self, blocks: Sequence[str], session: str | None, size: float = 0.0) -> dict[str, float]:
        """Tokens that each node need not read, of those that it has any of; the prompt has `size`."""
        depth: dict[str, int] = {}
        for number, block in enumerate(blocks):
            going = [node for node in self._holders.get(block, ()) if depth.get(node, 0) == number]
            if not going:
                break
            for node in going:
                depth[node] = number + 1
        hits = {node: float(BLOCK * count) for node, count in depth.items()}
        if session is not None and (last := self._sessions.get(session)) is not None:
            node, read = last
            # What it wrote it holds as well; a prompt that is shorter than the last one is another.
            hits[node] = max(read + ANSWERED * max(0.0, size - read), hits.get(node, 0.0))
        return hits

    def knows(self, session: str) -> bool:
        """Whether a request of this session came by here."""
        return session in self._sessions

    def remember(self, node: str, blocks: Sequence[str], session: str | None, tokens: float) -> None:
        """A request of so many tokens went to the node."""
        if blocks:
            kept = self._blocks.setdefault(node, OrderedDict())
            # From the end, so that of a chain the beginning stays longest.
            for block in reversed(blocks):
                if block not in kept:
                    self._holders.setdefault(block, set()).add(node)
                kept[block] = None
                kept.move_to_end(block)
            while len(kept) > self._kept:
                self._drop(node, kept.popitem(last=False)[0])
        if session is not None:
            self._sessions[session] = (node, tokens)
            self._sessions.move_to_end(session)
            while len(self._sessions) > self._most_sessions:
                self._sessions.popitem(last=False)

    def forget(self, nodes: Collection[str]) -> None:
        """These are gone, or have begun anew."""
        if not nodes:
            return
        for node in nodes:
            for block in self._blocks.pop(node, ()):
                self._drop(node, block)
        for session in [session for session, (place, _) in self._sessions.items() if place in nodes]:
            del self._sessions[session]

    def _drop(self, node: str, block: str) -> None:
        holders = self._holders[block]
        holders.discard(node)
        if not holders:
            del self._holders[block]
