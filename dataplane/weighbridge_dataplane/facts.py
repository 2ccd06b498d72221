"""What the choice of a node is made from, and what it is: plain values between the rooms of the data plane.

Times are seconds of one monotonic clock. Absent is not zero: what a node did not report is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

BLOCKS_MAXIMUM: Final = 64  # hashes of a beginning; blocks.lua gives no more
#: Tokens that so many blocks are, at four bytes each: they end after 128, 256 and 512 bytes, and after each 1,024.
DEPTHS: Final[tuple[int, ...]] = (0, 32, 64, 128, *range(256, 256 * (BLOCKS_MAXIMUM - 2), 256))


@dataclass(frozen=True, slots=True)
class Member:
    """One node's endpoint, as the operator tells it.

    `address` is what Envoy is told, "ip:port" or "[ip]:port"; `cluster` the Envoy cluster that holds it; `metrics` the
    URLs of its pages; `capacity` its room, in the pool's unit, None where nobody says it.
    """

    address: str
    cluster: str
    node: str  # "namespace/name"
    engine: str
    metrics: tuple[str, ...] = ()
    capacity: float | None = None
    mapping: tuple[tuple[str, str], ...] = ()  # signal to expression, of engine "custom"


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of a node's own page. `kv` is the part of its KV cache in use, 0 to 1; tokens are counters.

    `prompt_tokens` are those that the node had to read: `cached_tokens`, which it found in its cache of prefixes, are
    not among them. It counts the found when it begins to read and the rest when it has read, so that the difference is
    right over seconds, not from one sample to the next.
    """

    at: float
    kv: float | None = None
    waiting: float | None = None
    running: float | None = None
    prompt_tokens: float | None = None
    generated_tokens: float | None = None
    cached_tokens: float | None = None
    first_tokens: float | None = None  # requests that got one
    ended: float | None = None  # requests, with an answer or without
    life: float | None = None  # what moves with each step of the engine while it works; None: nothing does


@dataclass(frozen=True, slots=True)
class Counts:
    """What the Envoy beside us says of an endpoint.

    `active` are its requests there, those that wait for a connection included; `errors` its failures so far (5xx,
    resets, time-outs, refused connections), `total` all of its requests; `healthy` is false while it is ejected or
    unready.
    """

    active: int
    errors: int
    healthy: bool
    total: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `size` is its body in bytes, None where it does not say; `blocks` are the chained hashes of its
    prompt's beginning, the first block first; `session` names its conversation. `shared`: all Envoys name both alike.
    """

    size: int | None = None
    session: str | None = None
    blocks: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """What somebody sent to a node of late: requests, the tokens that it has to read of them, and how many seconds ago
    that was on average."""

    address: str
    requests: int
    tokens: float
    age: float


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a request began that was sent to a node, and how many tokens its prompt has.

    `trust`: how far the session's prompts go on what came before, 0 to 1. `pool`: a hash of the clusters among whose
    nodes was chosen.
    """

    address: str
    blocks: tuple[str, ...]
    session: str | None
    tokens: float
    trust: float = 1.0
    pool: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """Of the other data planes: how many processes are heard, and how many of the other Envoys are heard whole.

    `beside`: how many of them stand at our own Envoy. `begins`: whether each tells how requests begin.
    """

    processes: int = 0
    envoys: int = 0
    beside: int = 0
    begins: bool = True


#: What data planes tell each other.
Told = Sent | Beginning

#: Why the choice is silent, and the weights decide: nobody told the nodes yet, what was told is too old, fewer than
#: half of the nodes (or than two) can be judged, or every one is out of service or left out because it fails.
Silence = Literal["unknown", "stale", "few", "none"]

#: By what it was reckoned how much of a prompt each node has read: what all data planes of the gateway sent, this one
#: alone, or that and its conversation's home.
Known = Literal["all", "own", "home"]

Row = tuple[str, float, float, float, float, bool]  # the fields of a `Judged`, cheaper to make


@dataclass(frozen=True, slots=True)
class Judged:
    """One candidate: its J and what it is made of. `by_count` means that only our own counts were usable."""

    address: str
    load: float
    fill: float
    backlog: float  # seconds of unread prompts, a part of its own among them
    hit: float  # tokens that it need not read
    by_count: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The node that was named, or None and why not. `rows` are the fields of each `Judged`, put together when asked.

    `tokens` are those that the node has to read of the request, `begun` what others may be told of its beginning.
    `known` is None where the request has neither beginning nor conversation; `home` the address that drew it as such.
    """

    member: Member | None
    silence: Silence | None = None
    rows: tuple[Row, ...] = ()
    tokens: float = 0.0
    begun: Beginning | None = None
    known: Known | None = None
    home: str | None = None

    @property
    def judged(self) -> tuple[Judged, ...]:
        return tuple(Judged(*row) for row in self.rows)
