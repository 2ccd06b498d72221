"""What the gateway says about an object: conditions in Kubernetes' form, and a node's load in numbers and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from weighbridge_api.base import Shape

ACCEPTED = "Accepted"
RESOLVED_REFS = "ResolvedRefs"
PROGRAMMED = "Programmed"
METRICS_FRESH = "MetricsFresh"
READY = "Ready"

ConditionStatus = Literal["True", "False", "Unknown"]

#: Endpoints, or pools, that a status lists; the worst come first.
MOST_ENDPOINTS = 100


class Condition(Shape):
    """One thing that is true, false or not known of an object, with the reason in a word and in a sentence."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Accepted: valid. ResolvedRefs: what it refers to exists. Programmed: every connected Envoy runs it. MetricsFresh:
    its load is known and young. Ready: all of these, and a server is in service."""
    status: ConditionStatus
    """Unknown where it cannot be told."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """One word for machines."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """One sentence for people."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the object that this speaks of."""
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})] | None = None
    """When the status last changed."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        strict=False,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


_Factor = Annotated[float, Field(gt=0)]


class Factors(Shape):
    """What a weight is made of: it goes as (room x trimmed x left) squared, times speed."""

    room: _Factor = 1.0
    """How many requests fill the server, beside the pool's median."""
    trimmed: _Factor = 1.0
    """What lasting evidence takes from that room (below 1) or adds to it (above 1)."""
    left: _Factor = 1.0
    """What others' requests leave of it."""
    speed: _Factor = 1.0
    """How fast it works beside the pool's median."""


class EndpointStatus(Shape):
    """One server of a node in one pool, as the gateway weighs it. What is not known is absent."""

    pool: Annotated[str, Field(max_length=1024)]
    """The pool: nodes that are weighed against each other."""
    server: Annotated[str, Field(max_length=512)]
    """Of a Service the pod, else the address."""
    address: Annotated[str, Field(max_length=512)]
    """IP address and port."""
    healthy: bool | None = None
    """False where an Envoy keeps it out: it failed in a row, or its health check does."""
    score: Annotated[int, Field(ge=0, le=100)] | None = None
    """Load from 0 to 100, low is good."""
    parts: Annotated[Mapping[Annotated[str, Field(max_length=32)], float], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """What each signal adds to the score."""
    weight: Annotated[int, Field(ge=1)] | None = None
    """Its weight in the pool, as Envoy is told."""
    factors: Factors | None = None
    """What the weight is made of; a new operator begins with it."""
    share: Annotated[float, Field(ge=0, le=100)] | None = None
    """Percent of the pool's recent requests that it got."""
    age: Annotated[int, Field(ge=0)] | None = None
    """Its numbers were at most so many seconds old when this was written: 5, 15, 60, 300, 3600, or 86400 for more."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why it has this weight, in words."""


class NodeSummary(Shape):
    """The node at a glance: its worst server, and all of them together in the first of its pools."""

    servers: Annotated[str, Field(max_length=32)] = ""
    """How many of its servers are in service, of how many."""
    score: Annotated[int, Field(ge=0, le=100)] | None = None
    """Highest score of its servers."""
    weight: Annotated[int, Field(ge=0)] | None = None
    """Sum of its servers' weights."""
    share: Annotated[float, Field(ge=0, le=100)] | None = None
    """Percent of the pool's recent requests that its servers got."""
    age: Annotated[int, Field(ge=0)] | None = None
    """Age of its oldest numbers, as in endpoints."""


class ModelNodeStatus(Shape):
    """What the gateway knows of the node."""

    conditions: Conditions = ()
    """What is true of it."""
    summary: NodeSummary | None = None
    """The node at a glance."""
    endpoints: Annotated[
        tuple[EndpointStatus, ...],
        Field(
            strict=False,
            max_length=MOST_ENDPOINTS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["pool", "server"]},
        ),
    ] = ()
    """How each of its servers is weighed, the worst first."""


class PoolStatus(Shape):
    """Nodes that are weighed against each other for the policy's requests."""

    name: Annotated[str, Field(max_length=1024)]
    """Name of the pool."""
    profile: Annotated[str, Field(max_length=32)]
    """How load becomes a score: llm or classic."""
    servers: Annotated[int, Field(ge=0)]
    """How many servers it has."""
    load: Annotated[int, Field(ge=0, le=100)] | None = None
    """Mean of their scores by room; absent where too little is known."""


class RoutePolicyStatus(Shape):
    """What the gateway knows of the policy."""

    conditions: Conditions = ()
    """What is true of it; where another policy is preferred for all of its requests, Accepted names it."""
    pools: Annotated[
        tuple[PoolStatus, ...],
        Field(
            strict=False,
            max_length=MOST_ENDPOINTS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Where its requests go, the most loaded first."""
