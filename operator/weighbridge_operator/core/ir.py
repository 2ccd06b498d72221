"""The gateway model: our own words between what users wrote and what Envoy is told; it knows neither of the two.

A Pool is a set of nodes that are weighed against each other; it has one Part for each group of nodes that Envoy must
treat alike (health check and credential are settings of a whole Envoy cluster). Most pools have one part.
An Entry says where requests for a model go, first to last: a later pool serves only when no node of the earlier can.
All tuples are sorted where order has no meaning, so that equality is meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Profile = Literal["llm", "classic"]
Format = Literal["openai", "anthropic", "gemini"]


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """What a request is by its path: its type, and the API that it is written in."""

    type: str
    format: Format = "openai"

    def __str__(self) -> str:
        return self.type if self.format == "openai" else self.format.capitalize()


@dataclass(frozen=True, slots=True)
class Tls:
    server_name: str
    ca: tuple[str, str] | None  # (namespace, secret name); None trusts the system's authorities


@dataclass(frozen=True, slots=True)
class Served:
    """One model as callers name it, and as the node does."""

    model: str
    version: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model server. `node` is its identity everywhere: "namespace/name", of a Service "namespace/name/pod"."""

    node: str
    model_node: str  # "namespace/name" of the ModelNode that it belongs to
    engine: str
    address: str  # IP literal
    port: int
    hostname: str | None  # Host header and SNI; None keeps the caller's
    base_path: str  # "/v1"; what callers call /v1/... goes to base_path + ...
    served: tuple[Served, ...]
    tls: Tls | None
    tier: str
    capacity: float | None  # room as the user gave it, any unit that the pool shares
    concurrency: int | None  # requests that a plain server works on at once
    publishes_room: bool  # whether its engine says how many tokens of KV it holds
    format: Format = "openai"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    path: str
    interval: float  # seconds


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    endpoints: tuple[Endpoint, ...]
    health: HealthCheck | None
    credential: tuple[str, str, str] | None  # (namespace, secret name, entry)

    @property
    def format(self) -> Format:
        """The API that its nodes speak: all of a pool the same, because requests are passed on as they are."""
        return self.endpoints[0].format if self.endpoints else "openai"


@dataclass(frozen=True, slots=True)
class Balance:
    """How a pool turns load into score and weights. `weights` are the score's signal weights, sorted by signal."""

    profile: Profile
    weights: tuple[tuple[str, float], ...]
    queue_maximum: float
    #: True when the user set signal weights: then the score steers the weights by the classic path, in any profile.
    custom: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    parts: tuple[Part, ...]
    balance: Balance
    #: What leads here, "policy: model" each, for people; the name is one of them. Weighed is the pool without it.
    serves: tuple[str, ...] = field(default=(), compare=False)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(sorted((e for p in self.parts for e in p.endpoints), key=lambda e: e.node))


@dataclass(frozen=True, slots=True)
class Retry:
    attempts: int  # after the first try
    budget: float  # percent of the requests in flight


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. Streams have all three; an answer in one piece has only the total."""

    first_token: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class Destination:
    """A pool, and how the nodes' tables name what is asked of it: `model`, or `model@version`."""

    pool: str
    key: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A share of a rule's requests (percent; a rule's shares sum to 100) and where they go, the preferred first."""

    share: float
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One way for requests that carry all of `headers`. `default` is the model for a request that names none."""

    policy: str | None  # "namespace/name"; None where no policy speaks
    headers: tuple[tuple[str, str], ...]
    branches: tuple[Branch, ...]
    retry: Retry
    timeouts: Timeouts
    default: str | None = None
    precise: bool = False  # whether a node is named for each request, where the data plane can


@dataclass(frozen=True, slots=True)
class Entry:
    """What happens to requests of one kind that ask for `key` ("": that name no model): the first rule that fits.

    The last rule has no headers, unless some requests are to be refused as unknown.
    """

    kind: Kind
    key: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Gateway:
    """All that the entrance knows. Pools by name, entries by kind and key; `kinds` are those that some node serves.

    `seed`: by which all Envoys hash how requests begin; empty: each by its own.
    """

    pools: tuple[Pool, ...] = ()
    entries: tuple[Entry, ...] = ()
    kinds: tuple[Kind, ...] = ()
    seed: str = ""

    @property
    def precise(self) -> bool:
        """Whether some rule lets a node be named for each request."""
        return any(rule.precise for entry in self.entries for rule in entry.rules)

    def pool(self, name: str) -> Pool:
        return next(pool for pool in self.pools if pool.name == name)
