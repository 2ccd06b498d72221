"""Where conversations were last, and how far a prompt's beginning bears out that it goes on. Pure.

A session is what a client says of itself: a conversation, an application, a person. Of a conversation's next prompt its
last node has read what its last one held and what it answered; of an application's it may have read nothing. Where the
beginnings can be seen they decide: of the claim counts the part that the last prompt's beginning is found again in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace

from weighbridge_dataplane.facts import DEPTHS, Beginning

SESSIONS_KEPT, SESSIONS_KEPT_IN_ALL = 20_000, 100_000  # of one pool, of all (some 30 MB)
GAINED = 256.0  # tokens: of a shorter prompt, or of less that is common to many, nobody gains by a node that has it
ANSWERED = 0.5  # of what a turn adds to a conversation; the rest is asked
ANSWER_MOST = 512.0  # tokens; 95 of 100 answers of Azure's trace of conversations (2023) have 451 at most
TAIL = 1  # blocks at a prompt's end that hold more than the prompt, and differ in the next
LEAN = 0.02  # of one request on whether sessions come again


@dataclass(frozen=True, slots=True)
class Last:
    """A session's last request: its node, tokens and whole blocks, and how far its prompts go on, 0 to 1.

    `common`: the node of the last one that all data planes knew of. `ours`: whether one of its requests came by here.
    """

    node: str
    tokens: float
    blocks: int
    trust: float = 1.0
    common: str | None = None
    ours: bool = True

    def weigh(self, found: int, seen: int) -> float:
        """How far the next one goes on, of which `seen` blocks are known, and `found` on this node. 1: all the way.

        Where of either no block is seen, it is as far as it was before. Less than GAINED in common bears out no more
        than that: a greeting of a conversation's has it, and so have an application's questions.
        """
        if not self.blocks or not seen:
            return self.trust
        if not found:
            return 0.0
        borne_out = DEPTHS[min(found + TAIL, self.blocks)] / DEPTHS[self.blocks]
        return borne_out if DEPTHS[found] >= GAINED else min(borne_out, self.trust)


def go_on(tokens: float, size: float) -> float:
    """Tokens of a prompt of `size` that a node need not read, if it goes on one of `tokens` that was there."""
    return tokens + min(ANSWER_MOST, ANSWERED * max(0.0, size - tokens))


class Sessions:
    """The memory of one pool."""

    def __init__(self, most: int = SESSIONS_KEPT) -> None:
        self._most = self._kept = most
        self._last: OrderedDict[str, Last] = OrderedDict()
        self.repeated = 1.0  # the part of the requests whose session had come by here before, of late

    def go_on(self, dataplanes: int) -> float:
        """The part of the requests that go on a session that was here or at another of so many data planes.

        Reckoned from those here: each gets every turn as likely, and after each the session may be over.
        """
        here = 1 / dataplanes
        return self.repeated / (here + self.repeated * (1 - here))

    def find(self, session: str) -> Last | None:
        """Its last request that is known of."""
        return self._last.get(session)

    def remember(self, session: str, begun: Beginning, told: bool = False, ours: bool = True) -> None:
        """A request went there. `told`: all data planes know of it; not `ours`: another one sent it."""
        before = self._last.get(session)
        here = before is not None and before.ours
        if ours:
            self.repeated += LEAN * (here - self.repeated)
        common = begun.address if told else before.common if before is not None else None
        self._last[session] = Last(
            begun.address, begun.tokens, len(begun.blocks), begun.trust, common, ours=ours or here
        )
        self._last.move_to_end(session)
        self._trim()

    def share(self, pools: int) -> None:
        """So many pools share what is kept."""
        self._kept = max(1, min(self._most, SESSIONS_KEPT_IN_ALL // max(1, pools)))
        self._trim()

    def _trim(self) -> None:
        while len(self._last) > self._kept:
            self._last.popitem(last=False)

    def forget(self, nodes: Collection[str]) -> None:
        """These are gone, or have begun anew."""
        for session, last in list(self._last.items()):
            if last.node in nodes:
                del self._last[session]
            elif last.common in nodes:
                self._last[session] = replace(last, common=None)
