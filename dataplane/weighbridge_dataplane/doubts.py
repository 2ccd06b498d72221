"""Whether a node's page contradicts what gateways count there: it says that it does less, or that nothing moves.

What we hold there ourselves is counted at the moment of the page, so that two pages in a row suffice. What the other
gateways hold is up to 2 s old, in which short requests end and others begin: there averages are compared, which do not
depend on that. A node that says half of what it does is found out so.
"""

from __future__ import annotations

import math

from weighbridge_dataplane.facts import Sample

HOLDS = 4.0  # requests that must be there to call it a lie
SIGNS = 2  # samples in a row that say less than half of ours
PART, MEMORY = 0.7, 10.0  # of everybody's, on average over so many seconds
STILL, STILL_HOLDS = 1.0, 3.0  # seconds without a sign of life, with so many requests of ours


class Doubts:
    """About one node."""

    __slots__ = ("_at", "_holds", "_less", "_life", "_moved", "_said")

    def __init__(self) -> None:
        self._less = 0  # samples in a row
        self._holds = self._said = 0.0  # averages
        self._at = self._moved = float("-inf")
        self._life: float | None = None

    def rise(self, sample: Sample, own: int, counted: int, others: float) -> bool:
        """Whether this sample is a sign of a lie. `own`: ours there at most; `counted`: by Envoy's last page."""
        said = (sample.running or 0.0) + (sample.waiting or 0.0)
        least = min(own, counted)
        self._less = self._less + 1 if least >= HOLDS and said < least / 2 else 0
        lean = 1 - math.exp(-max(0.0, sample.at - self._at) / MEMORY) if self._at > 0 else 0.0
        self._at = sample.at
        self._holds += lean * (counted + others - self._holds)
        self._said += lean * (said - self._said)
        less = self._holds >= HOLDS and self._said < PART * self._holds
        return self._less >= SIGNS or less or self._stands_still(sample, own)

    def _stands_still(self, sample: Sample, own: int) -> bool:
        if sample.life is None or sample.life != self._life or own < STILL_HOLDS:
            self._life, self._moved = sample.life, sample.at
        return sample.life is not None and sample.at - self._moved >= STILL
