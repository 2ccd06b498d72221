"""What other data planes say that they sent to a node since its page: there on the page's next form, unseen until then.

A word counts as what was sent by ourselves does, and only until a page is read that is younger than it. Of a node whose
page is not believed others' counts are all there is, and those are seconds old: there what was sent of late counts, and
fades. A word can make a node look worse for that while, never better. Sums are kept, so that a request that is judged
adds nothing up. No clock but the caller's.
"""

from __future__ import annotations

import math

WORDS = 256  # kept one by one: of three others a second and a half and more, which is as long as a page serves
LATE = 4.0  # seconds, in which two thirds of what was sent of late are forgotten: others' counts hold it, or it ended


class Hearsay:
    """About one node."""

    __slots__ = ("_at", "_fading", "_until", "_words", "requests", "tokens")

    def __init__(self) -> None:
        self.requests, self.tokens = 0, 0.0  # since the page
        self._words: list[tuple[float, int, float]] = []
        self._until = self._at = float("-inf")
        self._fading = 0.0

    def hear(self, at: float, requests: int, tokens: float) -> None:
        """So many requests, with tokens that have to be read, were sent there at a moment."""
        self._fading = self.measure_late(at) + requests
        self._at = max(self._at, at)
        if at <= self._until:
            return
        if len(self._words) >= WORDS:
            last, before, unread = self._words.pop()
            self._words.append((max(last, at), before + requests, unread + tokens))
        else:
            self._words.append((at, requests, tokens))
        self.requests += requests
        self.tokens += tokens

    def measure_late(self, now: float) -> float:
        """Requests that others' counts do not hold yet, more or less."""
        return self._fading * math.exp(-max(0.0, now - self._at) / LATE) if self._fading else 0.0

    def read(self, at: float) -> None:
        """A page of this moment was read: it shows what was sent before."""
        self._until = at
        if self._words:
            self._words = [word for word in self._words if word[0] > at]
            self.requests = sum(word[1] for word in self._words)
            self.tokens = sum(word[2] for word in self._words)
