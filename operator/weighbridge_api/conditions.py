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

#: Endpoints that a status lists; the worst come first.
MOST_ENDPOINTS = 100


class Condition(Shape):
    """One thing that is true, false or not known of an object, with the reason in a word and in a sentence."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Accepted: valid. ResolvedRefs: what it refers to exists. Programmed: every connected Envoy runs it. MetricsFresh:
    its load is known and young. Ready: all of these."""
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


class EndpointStatus(Shape):
    """One endpoint of a node as the gateway weighs it. What is not known is absent."""

    name: Annotated[str, Field(max_length=512)]
    """The pool and the address."""
    score: Annotated[float, Field(ge=0, le=100)] | None = None
    """Load from 0 to 100, low is good."""
    parts: Annotated[Mapping[Annotated[str, Field(max_length=32)], float], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """What each signal adds to the score."""
    weight: Annotated[int, Field(ge=1)] | None = None
    """Its weight in the pool, as Envoy has it."""
    share: Annotated[float, Field(ge=0, le=100)] | None = None
    """Percent of the pool's requests that the weights give it."""
    age: Annotated[float, Field(ge=0)] | None = None
    """Seconds since its numbers were taken, when this was written."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why it has this weight, in words."""


class ModelNodeStatus(Shape):
    """What the gateway knows of the node."""

    conditions: Conditions = ()
    """What is true of it."""
    endpoints: Annotated[
        tuple[EndpointStatus, ...],
        Field(
            strict=False,
            max_length=MOST_ENDPOINTS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """How each is weighed, the worst first."""


class RoutePolicyStatus(Shape):
    """What the gateway knows of the policy."""

    conditions: Conditions = ()
    """What is true of it."""
