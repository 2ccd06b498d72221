"""What a node still has to read before it can answer: how many prompts by its own counters, how long by what we sent.

A request that has no first token yet is waiting, or running and not read. Engines count first tokens and ends, so that

    unread = waiting + running - (first tokens - ended)

up to a constant: requests that were given up are counted by some engines and not by others. The constant is the least
that this was within a minute or two, for then nothing was unread, or as good as nothing. Prompts are read in the order
in which they came: the unread ones of ours are those that were sent last. Nothing adds up over time, neither what was
guessed of lengths nor what other gateways send.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from weighbridge_dataplane.facts import Sample

MEMORY = 60.0  # seconds; the least of the present span and of the one before counts
REMEMBERED = 128  # prompts of ours
HALF = 0.5  # of the first prompt is read, as far as can be told


class Unread:
    """One node's."""

    __slots__ = ("_before", "_counters", "_least", "_reads", "_sent", "_since", "requests")

    def __init__(self) -> None:
        self.requests: float | None = None  # without a first token, of everybody; None: the engine does not say
        self._sent: deque[float] = deque(maxlen=REMEMBERED)  # tokens, the last first
        self._reads = False
        self._counters = (0.0, 0.0)
        self._least = self._before = float("inf")
        self._since = float("-inf")

    def learn(self, sample: Sample) -> float | None:
        """Takes a sample: for which part of the time since the one before the node was reading; None: it does not say.

        Half, where it was at one end alone: over many samples that adds up to the time that it took, however short a
        prompt is beside the time between two of them. Nobody reads what still waits for room.
        """
        before, self._reads = self._reads, False
        if sample.first_tokens is None or sample.ended is None or sample.running is None or sample.waiting is None:
            self.requests = None
            return None
        if sample.first_tokens < self._counters[0] or sample.ended < self._counters[1]:
            self._least = self._before = float("inf")
        self._counters = (sample.first_tokens, sample.ended)
        there = sample.running + sample.waiting
        more = there - sample.first_tokens + sample.ended
        if sample.at - self._since > MEMORY:
            self._before, self._least, self._since = self._least, more, sample.at
        self._least = min(self._least, more)
        self.requests = min(max(more - min(self._least, self._before), sample.waiting), there)
        self._reads = self.requests - sample.waiting >= 1
        return (before + self._reads) / 2

    def send(self, tokens: float) -> None:
        """A prompt of so many tokens, that have to be read, was sent there."""
        self._sent.appendleft(tokens)

    def measure(self, share: float, usual: float) -> float | None:
        """Unread tokens at the sample; `share` of the requests is ours, `usual` the tokens of one of others'."""
        if self.requests is None:
            return None
        if self.requests < 1:
            return 0.0
        ours = self.requests * share
        whole = min(round(ours), len(self._sent))
        last = list(islice(self._sent, whole))
        return sum(last) + (self.requests - whole) * usual - HALF * (last[-1] if last else usual)
