"""What people ask, as numbers: sizes, arrivals and traces. Pure; randomness is given.

The default is a chat service: prompts are lognormal with median 300 and sigma 1.0 (mean 495), answers with median 150
and sigma 0.9 (mean 225), arrivals are Poisson. A trace is CSV with TIMESTAMP, ContextTokens and GeneratedTokens.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Literal

Rate = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lognormal sizes in tokens, clamped."""

    prompt_median: float = 300.0
    prompt_sigma: float = 1.0
    prompt_range: tuple[int, int] = (8, 8000)
    answer_median: float = 150.0
    answer_sigma: float = 0.9
    answer_range: tuple[int, int] = (4, 2000)

    def draw(self, random: Random) -> tuple[int, int]:
        """Prompt and answer of one request, in tokens."""
        prompt = int(random.lognormvariate(math.log(self.prompt_median), self.prompt_sigma))
        answer = int(random.lognormvariate(math.log(self.answer_median), self.answer_sigma))
        return _clamp(prompt, self.prompt_range), _clamp(answer, self.answer_range)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a prompt. Those of one name say the same, as far as both go."""

    role: Literal["system", "user", "assistant"]
    name: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to send: `at` in seconds from the start, sizes in tokens, `n` answers at once.

    `turns` are what its prompt holds, where that matters, and `session` the conversation that it belongs to.
    """

    at: float
    prompt: int
    answer: int
    n: int = 1
    turns: tuple[Turn, ...] = ()
    session: str | None = None


def draw_arrivals(rate: float | Rate, seconds: float, sizes: Sizes, random: Random) -> Iterator[Arrival]:
    """Poisson arrivals. `rate` in requests a second, constant or by time; a time's rate may be 0."""
    size_random = Random(random.getrandbits(64))
    at = 0.0
    if not callable(rate):
        while rate > 0 and (at := at + random.expovariate(rate)) < seconds:
            yield Arrival(at, *sizes.draw(size_random))
        return
    # Thinning, with the maximum looked for on a grid of a tenth of a second.
    most = max(rate(step / 10) for step in range(max(1, math.ceil(seconds * 10))))
    while most > 0 and (at := at + random.expovariate(most)) < seconds:
        if random.random() * most <= rate(at):
            yield Arrival(at, *sizes.draw(size_random))


def read_trace(lines: Iterable[str], speed: float = 1.0) -> Iterator[Arrival]:
    """Arrivals of a CSV trace, counted from its first row, `speed` times as fast. ValueError names a wrong line."""
    start: datetime | None = None
    rows = csv.DictReader(lines)
    for number, row in enumerate(rows, start=2):
        try:
            # The trace has seven digits after the point; Python reads six.
            moment = datetime.fromisoformat(row["TIMESTAMP"].strip()[:26])
            prompt, answer = int(row["ContextTokens"]), int(row["GeneratedTokens"])
        except (KeyError, ValueError, AttributeError, TypeError):
            wanted = "TIMESTAMP,ContextTokens,GeneratedTokens"
            raise ValueError(f"line {number} of the trace is not {wanted}: {row}") from None
        start = start or moment
        yield Arrival((moment - start).total_seconds() / speed, max(1, prompt), max(1, answer))


def _clamp(value: int, bounds: tuple[int, int]) -> int:
    return min(bounds[1], max(bounds[0], value))
