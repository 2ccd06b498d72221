"""The gateway model: our own words between what users wrote and what Envoy is told. Knows neither Envoy nor Kubernetes.

A Pool is a set of nodes that are weighed against each other; it has one Part for each group of nodes that Envoy must treat
alike (health check and credential are settings of a whole Envoy cluster). Most pools have one part.
A Route says which requests go to which pools, first to last: a later pool serves only when no node of the earlier can.
All tuples are sorted where order has no meaning, so that equality is meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Profile = Literal["llm", "classic"]


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
    """One model server. `node` ("namespace/name") is its identity everywhere."""

    node: str
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

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(sorted((e for p in self.parts for e in p.endpoints), key=lambda e: e.node))
