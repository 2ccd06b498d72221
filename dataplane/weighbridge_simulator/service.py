"""Words of the service model: what a node can do, one job, and what can be seen of an engine. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

EventKind = Literal["first", "end", "refused"]
BLOCK = 16  # tokens of a block of the KV cache
Place = Literal["new", "waiting", "reading", "decoding", "ended", "cancelled", "refused"]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a node can do. `a` and `b` in seconds, `prefill_rate` in prompt tokens a second, `chunk` in tokens."""

    a: float = 0.012
    b: float = 0.00025
    prefill_rate: float = 10_000.0
    chunk: int = 512
    sequences: int = 64
    kv_tokens: int = 40_000
    prefix_caching: bool = True

    def __post_init__(self) -> None:
        for name in ("a", "b", "prefill_rate", "chunk", "sequences", "kv_tokens"):
            require_positive(name, getattr(self, name))

    @classmethod
    def unit(cls, size: float = 1.0) -> EngineSpec:
        """A node `size` times the unit in compute, sequences and KV. The unit saturates at 5.9 chats a second."""
        require_positive("size", size)
        return cls(
            b=0.00025 / size,
            prefill_rate=10_000.0 * size,
            sequences=max(1, round(64 * size)),
            kv_tokens=max(1, round(40_000 * size)),
        )


class Job:
    """One request: `n` sequences of `answer` tokens that share a prompt.

    `external` marks load that no gateway sent; `tag` is the caller's. `blocks` names the whole blocks of `BLOCK` tokens
    of the prompt and of the answer behind it, each by all that stands up to its end; the node counts those that the job
    shares (`held`) and the tokens that it need not read (`cached`). `session` names its conversation, for who chooses.
    """

    # fmt: off
    __slots__ = (
        "answer", "blocks", "cached", "end", "external", "first", "held", "kv", "n", "place", "prompt", "session",
        "started", "submitted", "tag",
    )
    # fmt: on

    def __init__(
        self,
        prompt: int,
        answer: int,
        n: int = 1,
        external: bool = False,
        tag: object = None,
        blocks: tuple[int, ...] = (),
        session: str | None = None,
    ) -> None:
        if prompt < 1 or answer < 0 or n < 1:
            raise ValueError(f"a job needs prompt >= 1, answer >= 0 and n >= 1, not {prompt}, {answer}, {n}")
        self.prompt = prompt
        self.answer = answer
        self.n = n
        self.external = external
        self.tag = tag
        self.kv = prompt + n * answer
        self.blocks = blocks
        self.session = session
        self.held = self.cached = 0
        self.place: Place = "new"
        self.submitted = inf
        self.first = inf
        self.end = inf
        self.started = 0.0  # the engine's step count at which decoding began


Event = tuple[Job, EventKind, float]


@dataclass(frozen=True, slots=True)
class EngineSample:
    """An engine at one instant.

    All but tokens, seconds and `kv`, the reserved share, count sequences, as engines do; all after `kv_used` only rise.
    Of the prompts' tokens `queried_tokens` were looked for in the cache, and `cached_tokens` found.
    """

    running: int
    waiting: int
    kv: float
    kv_used: int
    generated_tokens: float
    prompt_tokens: int
    busy_seconds: float
    ttft_sum: float
    ttft_count: int
    ended: int
    cancelled: int
    queried_tokens: int = 0
    cached_tokens: int = 0

    @property
    def whole_tokens(self) -> int:
        """Generated tokens that are complete; sums of parts of steps fall short of whole numbers by their rounding."""
        return int(self.generated_tokens + 1e-6)


def require_positive(name: str, value: float) -> float:
    """The value itself. ValueError if it is not a finite number above 0."""
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
    return value
