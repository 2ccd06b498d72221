"""What is learned of a node from its samples: the fill that a request adds, how fast tokens come, how fast it reads.

    g   fill that one request adds: EWMA of KV use / EWMA of running requests, 30 s, leaned on the pool's figure
    v   tokens a second and running request, EWMA of 10 s; where tokens are counted as requests end, all of late over
        the seconds that requests ran for them, 10 s or four counts
    P   prompt tokens that were read over the time in which some were being read, 60 s, leaned on the pool's figure;
        where no page says when that is, at best: the highest of windows of a second, which fades with 120 s

The last is a highest value on purpose: taken too low, unread prompts would never seem to be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

from weighbridge_dataplane.facts import Sample

FILL_MEMORY, SPEED_MEMORY, READING_MEMORY, BEST_MEMORY = 30.0, 10.0, 60.0, 120.0  # seconds
ROOM_MEMORY = 60.0  # seconds after its last queue
ROOM_KV = 0.5  # of the KV cache in use, from which a queue may be the cache's doing, which its fill tells by itself
SPEED_COUNTS = 4.0  # of tokens, at least, where they are counted as requests end
STALLED = 600.0  # seconds of work without a count of tokens, of which nothing is learned
SURE = 1.0  # seconds of reading, after which its rate is known
GLIMPSE = 0.125  # seconds of reading, half of the time between two pages, that may be before any of it was seen
WINDOW = 1.0  # seconds over which reading is measured, at least
#: Requests, and anything: a count that fell below 0 and wrapped is none.
MOST_RUNNING, MOST_WAITING, MOST = 1e4, 1e6, 1e15
USUAL_FILL = 0.016  # of one request, where nothing is known
LEAN = 0.03  # of fill, that the pool's figure counts for beside a node's own
LEAN_READING = 2.0  # seconds of reading, that it counts for


class Rates:
    """One node's. `learn` takes each usable sample once."""

    __slots__ = (
        "_begun",
        "_best",
        "_made",
        "_over",
        "_queued",
        "_window",
        "_work",
        "_worked",
        "fill",
        "read",
        "reading",
        "room",
        "running",
        "sample",
        "speed",
        "spent",
        "told",
    )

    def __init__(self) -> None:
        self.sample: Sample | None = None
        self.fill = self.running = 0.0
        self.speed: float | None = None
        self._begun = False  # whether tokens were counted once, so that it is known for what it worked since
        self._over = self._worked = 0.0  # seconds since tokens were counted, and those times the running requests
        self._made = self._work = 0.0  # tokens of late, and what was worked for them, likewise
        self.room: float | None = None  # requests that it works on at most, known while it queues
        self._queued = 0.0
        self.reading: float | None = None
        self._window: Sample | None = None
        self._best = 0.0
        self.told = False  # whether its pages say when it reads
        self.read = self.spent = 0.0  # tokens of late, and the seconds in which they were read

    @property
    def doubt(self) -> float:
        """By which part the rate of reading may be wrong: of a prompt is seen a look or none, whatever it took."""
        return math.sqrt(2 * GLIMPSE * self.spent) / (self.spent + LEAN_READING) if self.told else 0.0

    def learn(self, sample: Sample, reading: float | None) -> None:
        """Takes a sample; a counter that fell means a new start, from which is counted anew.

        `reading`: for which part of the time since the one before it had something to read; None: nobody says.
        """
        before, self.sample = self.sample, sample
        if before is None or sample.at <= before.at:
            self._window = sample
            return
        passed = sample.at - before.at
        self._learn_room(before, sample)
        lean = 1 - math.exp(-passed / FILL_MEMORY)
        # A cache that is empty while requests run is a number that is not kept, or rounded away: not what they take.
        if sample.kv is not None and sample.running is not None and (sample.kv > 0 or sample.running < 1):
            self.fill += lean * (sample.kv - self.fill)
            self.running += lean * (sample.running - self.running)
        self._learn_speed(before, sample, passed)
        self._find_best_reading(sample)
        if reading is not None:
            self.told = True
            self._learn_reading(before, sample, reading * passed)

    def _learn_room(self, before: Sample, sample: Sample) -> None:
        limited = sample.kv is None or sample.kv < ROOM_KV
        if limited and before.waiting and sample.waiting and sample.running:
            self.room = (
                max(sample.running, self.room or 0.0) if sample.at - self._queued < ROOM_MEMORY else sample.running
            )
            self._queued = sample.at
        elif sample.at - self._queued > ROOM_MEMORY:
            self.room = None

    def _learn_speed(self, before: Sample, sample: Sample, passed: float) -> None:
        done, last = _sum(sample), _sum(before)
        if done is None or last is None or done < last:
            self._over, self._worked, self._begun = 0.0, 0.0, False
            return
        working = ((sample.running or 0.0) + (before.running or 0.0)) / 2
        if done != sample.life:
            self._learn_counted_late(done - last, passed, working)
        elif done > last and (sample.running or 0.0) >= 1:
            speed, lean = (done - last) / passed / max(1.0, working), min(1.0, passed / SPEED_MEMORY)
            self.speed = speed if self.speed is None else self.speed + lean * (speed - self.speed)

    def _learn_counted_late(self, tokens: float, passed: float, working: float) -> None:
        """Where tokens are counted as requests end, the node has worked for them since the count before."""
        if working > 0:
            self._over += passed
            self._worked += passed * max(1.0, working)
        if tokens > 0 and self._begun and 0 < self._over <= STALLED:
            faded = math.exp(-self._over / max(SPEED_MEMORY, SPEED_COUNTS * self._over))
            self._made = self._made * faded + tokens
            self._work = self._work * faded + self._worked
            self.speed = self._made / self._work
        if tokens > 0:
            self._over, self._worked, self._begun = 0.0, 0.0, True

    def _learn_reading(self, before: Sample, sample: Sample, spent: float) -> None:
        if sample.prompt_tokens is None or before.prompt_tokens is None or _asked(sample) < _asked(before):
            return
        # What is found in a cache is taken off when a prompt begins to be read, so that this may be less than nothing.
        faded = math.exp((before.at - sample.at) / READING_MEMORY)
        self.read = self.read * faded + sample.prompt_tokens - before.prompt_tokens
        self.spent = self.spent * faded + spent
        if self.read > 0:
            # What was read between two pages, and not seen to be read, was read quickly: at its traffic's own rate, the
            # best of an idle node, prompts would seem unread that have long been answered.
            known = self.read / (self.spent + (GLIMPSE if self.spent < SURE else 0.0))
            self.reading = known if self.spent >= SURE else max(known, self._best)

    def _find_best_reading(self, sample: Sample) -> None:
        window, read = self._window, sample.prompt_tokens
        if read is None:
            return
        if window is None or window.prompt_tokens is None or read < window.prompt_tokens:
            self._window = sample
            return
        passed = sample.at - window.at
        if passed < WINDOW:
            return
        rate = (read - window.prompt_tokens) / passed
        self._window = sample
        faded = self._best * math.exp(-passed / BEST_MEMORY)
        self._best = max(faded, rate)
        if not self.told and self._best > 0:
            self.reading = self._best


def make_sound(sample: Sample) -> Sample:
    """The sample without what is no number of 0 or more, or one that no engine has; a share above 1 is 1."""
    kv = _sound(sample.kv)
    return Sample(
        sample.at,
        min(kv, 1.0) if kv is not None else None,
        _sound(sample.waiting, MOST_WAITING),
        _sound(sample.running, MOST_RUNNING),
        _sound(sample.prompt_tokens),
        _sound(sample.generated_tokens),
        _sound(sample.cached_tokens),
        _sound(sample.first_tokens),
        _sound(sample.ended),
        _sound(sample.life),
    )


def tells_load(sample: Sample) -> bool:
    """Whether a node can be judged by it."""
    return None not in (_sound(sample.running, MOST_RUNNING), _sound(sample.waiting, MOST_WAITING))


def _sound(value: float | None, most: float = MOST) -> float | None:
    return value if value is not None and 0 <= value <= most else None


def _sum(sample: Sample) -> float | None:
    found = [tokens for tokens in (sample.prompt_tokens, sample.generated_tokens) if tokens is not None]
    return sum(found) if found else None


def has_begun_anew(before: Sample, sample: Sample) -> bool:
    """Whether a counter fell: the node is another, or has forgotten all that it knew."""
    counters = (
        (None if each.prompt_tokens is None else _asked(each), each.generated_tokens, each.ended)
        for each in (before, sample)
    )
    return any(old is not None and new is not None and new < old for old, new in zip(*counters, strict=True))


def _asked(sample: Sample) -> float:
    return (sample.prompt_tokens or 0.0) + (sample.cached_tokens or 0.0)


def fill_of_request(nodes: Iterable[tuple[Rates, float | None]]) -> list[float]:
    """g of each of a pool's nodes, given with their capacities; those count if every node has one."""
    pool = list(nodes)
    told = all(capacity for _, capacity in pool)
    parts = [(rates, (capacity or 1.0) if told else 1.0) for rates, capacity in pool]
    fill = sum(rates.fill * capacity for rates, capacity in parts)
    running = sum(rates.running for rates, _ in parts)
    usual = fill / running if fill > 0 and running > 1e-6 else USUAL_FILL
    if told:
        return [usual / capacity for _, capacity in parts]
    return [(rates.fill + LEAN) / (rates.running + LEAN / usual) for rates, _ in parts]


def rates_of_reading(nodes: Iterable[Rates]) -> list[float | None]:
    """P of each of a pool's nodes.

    What was not seen for long leans on the pool's figure, and what was hardly seen is it: a node that seemed slow, or
    had hardly anything to read, would not be asked any more and never be found to be fast.
    """
    pool = list(nodes)
    usual = _usual_reading(pool)
    if usual is None:
        return [None for _ in pool]
    return [_lean(rates, usual) if rates.told else rates.reading for rates in pool]


def _lean(rates: Rates, usual: float) -> float:
    if rates.spent < SURE:
        return usual
    return max(0.0, rates.read + LEAN_READING * usual) / (rates.spent + LEAN_READING)


def _usual_reading(pool: list[Rates]) -> float | None:
    """The median of those that are known; else of what all that tell it read together; else at best."""
    known = middle(rates.reading for rates in pool if rates.spent >= SURE)
    read, spent = sum(max(0.0, rates.read) for rates in pool), sum(rates.spent for rates in pool)
    together = read / (spent + (GLIMPSE if spent < SURE else 0.0)) if read else None
    return known or together or middle(rates.reading for rates in pool)


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are known and above 0."""
    known = [value for value in values if value is not None and value > 0]
    return median(known) if known else None
