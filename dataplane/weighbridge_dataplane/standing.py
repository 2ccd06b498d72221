"""One node as the chooser sees it: what it said last, what we count there ourselves, and whether it is believed.

Own requests in flight are those that Envoy counted last, and what was named since. A node is suspect when its page
contradicts our count (`doubts`). A report can make a node look worse than our count, never better.
"""

from __future__ import annotations

import math

from weighbridge_dataplane.doubts import Doubts
from weighbridge_dataplane.facts import Counts, Member, Sample
from weighbridge_dataplane.hearsay import Hearsay
from weighbridge_dataplane.rates import Rates, has_begun_anew
from weighbridge_dataplane.unread import Unread

FRESH = 1.5  # seconds for which a sample says what is
BELIEVED_AGAIN = 10.0  # seconds after the last sign of a lie
OTHERS_WEIGHT = 0.7  # of other replicas' requests, which are counted 2 s late
FAILS, FAILURES = 0.2, 1.5  # of its requests of late, and how many, from which a node is left out
FAILURE_MEMORY = 10.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 60.0  # seconds that it is left out, doubling
FORGIVEN = 120.0  # seconds without a failure


class Standing:
    """Mutable; belongs to one chooser."""

    __slots__ = (
        "_asked", "_counted", "_doubts", "_failed", "_failures", "_pause", "backlog", "backlog_at", "count", "doubt",
        "g", "hearsay", "hinted", "left_out_until", "member", "others", "rates", "reading", "sent", "sent_at_count",
        "sent_at_sample", "sent_tokens", "slow", "suspect_until", "unread",
    )  # fmt: skip

    def __init__(self, member: Member) -> None:
        self.member = member
        self.rates = Rates()
        self.unread = Unread()
        self._doubts = Doubts()
        self.hearsay = Hearsay()
        self.count: Counts | None = None
        self._counted = self._failed = float("-inf")
        self._asked = self._failures = 0.0  # of late
        self.sent = self.sent_at_count = self.sent_at_sample = 0
        self.others: float | None = 0.0  # requests in flight of other replicas; None: unknown
        self.hinted = False  # whether the weights suspect it
        self.suspect_until = self.left_out_until = float("-inf")
        self._pause = FIRST_PAUSE
        self.backlog = self.backlog_at = 0.0  # prompt tokens sent and not read, and when that was reckoned
        self.sent_tokens = 0.0  # since the sample
        self.g = self.slow = 1.0
        self.reading: float | None = None  # prompt tokens a second
        self.doubt = 0.0  # seconds by which J may be wrong for each token that is to be read

    @property
    def own(self) -> int:
        """Our requests there, at most: of those named since the count none is taken for answered."""
        return (self.count.active if self.count is not None else 0) + self.sent - self.sent_at_count

    def is_usable(self, now: float) -> bool:
        """Whether its last sample says anything of now."""
        sample = self.rates.sample
        return sample is not None and now - sample.at <= FRESH and not self.hinted and now >= self.suspect_until

    @property
    def is_healthy(self) -> bool:
        """Whether Envoy would send it anything."""
        return self.count is not None and self.count.healthy

    def is_open(self, now: float) -> bool:
        """Whether it may be named: healthy by Envoy's own checks, and not failing."""
        return self.count is not None and self.count.healthy and now >= self.left_out_until

    @property
    def share(self) -> float:
        """The part of the requests there that is ours, by the gateways' counts."""
        own, sample = float(self.own), self.rates.sample
        there = own + (self.others or 0.0)
        if sample is not None and sample.at >= self.suspect_until:
            there = max(there, (sample.running or 0.0) + (sample.waiting or 0.0))
        return own / there if own > 0 else 1.0

    def read(self, sample: Sample, ratio: float, usual: float) -> float | None:
        """Takes a sample; the prompt tokens of ours that were read since the one before. None: it has begun anew.

        Nothing is learned from one that contradicts our count. `usual`: unread tokens of a prompt as
        measured; `ratio`: what one of these is.
        """
        self.hearsay.read(sample.at)
        counted = self.count.active if self.count is not None else 0
        if self._doubts.rise(sample, self.own, counted, self.others or 0.0):
            self.suspect_until = sample.at + BELIEVED_AGAIN
        before, read = self.rates.sample, 0.0
        anew = before is not None and has_begun_anew(before, sample)
        if anew:
            self.backlog = 0.0
        elif before is not None and before.prompt_tokens is not None and tells_reading(sample):
            assert sample.prompt_tokens is not None
            read = max(0.0, self.share * (sample.prompt_tokens - before.prompt_tokens))
            self.backlog = max(0.0, self.backlog - read)
        self.sent_at_sample, self.sent_tokens = self.sent, 0.0
        if sample.at < self.suspect_until:
            self.rates.sample = sample
            return None if anew else 0.0
        self.rates.learn(sample, self.unread.learn(sample))
        unread = self.unread.measure(self.share, usual)
        if unread is not None:
            self.backlog, self.backlog_at = unread * ratio, sample.at
        return None if anew else read

    def take_count(self, count: Counts | None, now: float) -> None:
        """Takes what Envoy counts; None: Envoy knows no such node.

        A node that fails fast is truthfully empty, and would draw everybody. One failure may be the request's own.
        """
        before, self.count = self.count, count
        passed, self._counted = now - self._counted, now
        self.sent_at_count = self.sent
        if before is None or count is None or count.errors < before.errors:
            self._asked = self._failures = 0.0
            return
        faded = math.exp(-max(0.0, passed) / FAILURE_MEMORY)
        failed = count.errors - before.errors
        self._failures = self._failures * faded + failed
        self._asked = self._asked * faded + max(count.total - before.total, failed)
        if failed and self._failures >= max(FAILURES, FAILS * self._asked):
            if now >= self.left_out_until:
                self._pause = FIRST_PAUSE if now - self._failed > FORGIVEN else min(2 * self._pause, LONGEST_PAUSE)
            self._failed = now
            self.left_out_until = now + self._pause


def tells_reading(sample: Sample | None) -> bool:
    """Whether samples say, from one to the next, what was read. Where much is found in a cache, only over seconds."""
    return sample is not None and sample.prompt_tokens is not None and not sample.cached_tokens
