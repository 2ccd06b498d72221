"""How much of a prompt each node is taken to have read: what was sent there, by us and others, and at its home. Pure.

Other Envoys' data planes tell which beginnings they sent where, if routes let all name them alike. What is not told is
not lost either where conversations have names: each has a home, and all lean that way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from weighbridge_dataplane.affinity import Affinity, Found
from weighbridge_dataplane.facts import Asked, Beginning, Known, Member
from weighbridge_dataplane.homes import Homes

HOME_SHARE, HOME_LEAST = 0.9, 1500.0  # of a prompt, and tokens, that a conversation's home is taken to have read
HOME_UNKNOWN = 0.5  # of a new conversation's prompt: where more of it is known to be read somewhere, that counts alone
AGAIN = 0.2  # of the sessions, from which on a new one may have been at another Envoy before, or come again


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens of a prompt, by node: by how many each draws it, and how many it need not read.

    `trust`: how far it goes on what its session had before, 0 to 1; None where the session is not known here.
    `home`: the address whose draw is more than is known of it; `last` where its session was last, if it goes on.
    """

    draws: Mapping[str, float]
    read: Mapping[str, float]
    trust: float | None
    known: Known | None
    home: str | None = None
    last: str | None = None


class Beginnings:
    """Of one set of nodes, which others know as `pool`, in one of so many processes beside this Envoy."""

    def __init__(self, processes: int, pool: int) -> None:
        self._processes, self._pool = processes, pool
        self._members: Sequence[Member] = ()
        self._envoys, self._heard = 1, 0  # as the operator says, and others as they say themselves
        self._told = False
        self._affinity = Affinity()
        self._homes = Homes()

    def tell(self, members: Sequence[Member], envoys: int, gone: Collection[str]) -> None:
        """The nodes and Envoys now; what is known of those that are gone is forgotten."""
        self._envoys, self._members = envoys, members
        self._affinity.forget(gone)
        self._homes.tell(members if self._dataplanes > 1 else ())

    def share(self, nodes: int, pools: int) -> None:
        """So many nodes in so many pools share what is remembered."""
        self._affinity.share(nodes, pools)

    def attend(self, others: int, told: bool) -> None:
        """So many other Envoys are heard now. `told`: all data planes of the gateway tell how their requests begin."""
        before, self._heard, self._told = self._dataplanes, others, told
        if (before > 1) != (self._dataplanes > 1):
            self._homes.tell(self._members if self._dataplanes > 1 else ())

    @property
    def _dataplanes(self) -> int:
        """Those through which a conversation may come. Others' Envoys may be another operator's."""
        return max(self._envoys, self._heard + 1) * self._processes

    def forget(self, address: str) -> None:
        """This node has begun anew."""
        self._affinity.forget((address,))

    def find(self, asked: Asked, size: float, among: Iterable[str]) -> Drawn:
        """For a prompt of `size` tokens: of those `among` which one is to be drawn, and of who has read most of it."""
        if not asked.blocks and asked.session is None:
            return Drawn({}, {}, None, None)
        found = self._affinity.find(asked.blocks, asked.session, size, among)
        if asked.shared and self._told:
            return Drawn(found.tokens, found.tokens, found.trust, "all", last=found.last)
        return self._lean_home(asked, found, size)

    def remember(self, address: str, asked: Asked, size: float, trust: float | None) -> Beginning | None:
        """It was sent there, with what `find` said; what others may be told of it, if anything."""
        if not asked.blocks and asked.session is None:
            return None
        begun = Beginning(address, asked.blocks, asked.session, size, 1.0 if trust is None else trust, self._pool)
        self._affinity.remember(begun, told=asked.shared and self._told)
        return begun if asked.shared else None

    def hear(self, begun: Beginning) -> None:
        """Another data plane sent it."""
        self._affinity.remember(begun, told=True, ours=False)

    def _lean_home(self, asked: Asked, found: Found, size: float) -> Drawn:
        """Its home draws a prompt by more than is known.

        What came through another Envoy is not remembered here, and what is may be old: the turns since were others'.
        Where all lean the same way they are not lost. What begins as others' prompts do needs no home, nor what does
        not go on, nor sessions of which none comes again. Where all knew a session, before one was not heard any more,
        that node is its home.
        """
        tokens, trust, read = found.tokens, found.trust, 1.0
        session = asked.session
        if session is None or (home := found.common or self._homes.find(session)) is None:
            return Drawn(tokens, tokens, found.trust, "own", last=found.last)
        if trust is None:
            read = self._affinity.sessions.go_on(self._dataplanes)
            trust = float(read >= AGAIN and max(tokens.values(), default=0.0) < HOME_UNKNOWN * size)
        known = tokens[home] if home in tokens else self._affinity.measure(home, asked.blocks, size)
        claim = min(size, trust * max(HOME_SHARE * size, HOME_LEAST))
        if claim <= known:
            return Drawn(tokens, tokens, found.trust, "own", last=found.last)
        return Drawn({**tokens, home: claim}, {**tokens, home: max(known, read * claim)}, found.trust, "home", home)
