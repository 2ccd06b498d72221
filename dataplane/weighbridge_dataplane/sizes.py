"""How many tokens a prompt has, by the length of its body.

Four bytes are a token, as far as a body tells. A language, its escapes or pictures make that wrong for a whole pool,
and then unread prompts would add up for ever, for they are taken off as the nodes count them. So the nodes' own
counters correct it: what they have read of ours over what was sent to them.
"""

from __future__ import annotations

import math

BYTES = 4.0  # of a token
USUAL = 500.0  # tokens of a prompt, before there was one
LEAN = 0.05  # of one prompt on what is usual
MEMORY, PERIOD = 60.0, 1.0  # seconds
ENOUGH = 20_000.0  # tokens, before the counters say anything
LEAST, MOST = 0.25, 4.0


class Sizes:
    """One pool's. What `measure` gives is to be multiplied by `ratio`."""

    def __init__(self) -> None:
        self.ratio = 1.0
        self._usual = USUAL
        self.unread = USUAL  # tokens of a usual prompt that were not read before, as measured
        self._sent = self._read = 0.0
        self._at = float("-inf")

    @property
    def usual(self) -> float:
        """Tokens of a usual prompt."""
        return self._usual * self.ratio

    def measure(self, size: int | None) -> float:
        """Tokens of a body of so many bytes; of a usual one where it does not say."""
        if size is None:
            return self._usual
        tokens = size / BYTES
        self._usual += LEAN * (tokens - self._usual)
        return tokens

    def compare(self, tokens: float) -> float:
        """How many usual prompts these are, as measured."""
        return tokens / max(1.0, self._usual)

    def send(self, tokens: float, counted: bool) -> None:
        """So many, as measured, have to be read; whether by a node that counts them."""
        self.unread += LEAN * (tokens - self.unread)
        if counted:
            self._sent += tokens

    def read(self, tokens: float, now: float) -> None:
        """So many of ours were read, by a node's own counter."""
        self._read += tokens
        passed = now - self._at
        if 0 <= passed < PERIOD:
            return
        faded = math.exp(-passed / MEMORY) if passed >= 0 else 1.0
        self._at = now
        if self._sent >= ENOUGH:
            self.ratio = min(MOST, max(LEAST, self._read / self._sent))
        self._sent, self._read = self._sent * faded, self._read * faded

    def pause(self) -> None:
        """Requests go by, unseen: what is counted meanwhile says nothing."""
        self._sent = self._read = 0.0
