"""RoutePolicy: which requests it speaks for, and how they are spread, retried, timed and caught when nothing serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from weighbridge_api.base import API_VERSION, Resource, Shape, sort_mapping
from weighbridge_api.faults import fault
from weighbridge_api.modelnode import Types
from weighbridge_api.values import (
    Duration,
    HeaderName,
    HeaderValue,
    LabelKey,
    LabelValue,
    ModelMatch,
    ModelName,
    Percentage,
    Version,
    Within,
    cel,
)

Profile = Literal["llm", "classic"]
Signal = Literal["cpu", "memory", "gpu", "gpuMemory", "kv", "queue", "running", "latency"]

#: Headers that start so are the gateway's own: it sets them, and matching them would let a client choose its policy.
RESERVED_HEADER_PREFIX = "x-weighbridge-"


def _check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name in headers:
        if name.startswith(RESERVED_HEADER_PREFIX):
            raise fault(f"{name} is one of the gateway's own headers", "match another header", cure=(name,))
    return sort_mapping(headers)


def _check_match_models(models: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(models)) != len(models):
        raise fault("names a model twice", "remove one", instead=sorted(set(models)))
    return tuple(sorted(models))


class Match(Shape):
    """Which requests the policy speaks for; what is left out matches every request."""

    models: Annotated[
        tuple[ModelMatch, ...],
        Field(strict=False, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
        AfterValidator(_check_match_models),
    ] = ()
    """Model names, or the start of one followed by *."""
    types: Types = ()
    """Kinds of request."""
    headers: Annotated[
        Mapping[HeaderName, HeaderValue],
        Field(
            max_length=8,
            json_schema_extra=cel(
                f"self.all(name, !name.startsWith('{RESERVED_HEADER_PREFIX}'))",
                f"headers that start with {RESERVED_HEADER_PREFIX} are the gateway's own",
            ),
        ),
        AfterValidator(_check_headers),
    ] = Field(default_factory=dict)
    """Headers with their exact values, all of which a request must carry."""


class NodeSelector(Shape):
    """Which ModelNodes of the policy's namespace serve its requests."""

    match_labels: Annotated[
        Mapping[LabelKey, LabelValue], Field(min_length=1, max_length=16), AfterValidator(sort_mapping)
    ]
    """Labels that a node must carry, all of them."""


def _check_weights(weights: Mapping[Signal, float]) -> Mapping[Signal, float]:
    if weights and not any(weights.values()):
        raise fault("are all zero", "give at least one signal a weight above 0, or remove the field")
    return sort_mapping(weights)


# In the cluster the map is an object with one property for each signal: no signal given, or one above zero.
_WEIGHTS_RULE = cel(
    " && ".join(f"!has(self.{signal})" for signal in get_args(Signal))
    + " || "
    + " || ".join(f"(has(self.{signal}) && self.{signal} > 0.0)" for signal in get_args(Signal)),
    "the weights are all zero",
)


class Balance(Shape):
    """How load becomes score and weight."""

    profile: Profile | None = None
    """Default: llm where the engine publishes its load, else classic."""
    weights: Annotated[
        Mapping[Signal, Annotated[float, Field(ge=0, le=100, description="The signal's weight in the score.")]],
        Field(max_length=8, json_schema_extra=_WEIGHTS_RULE),
        AfterValidator(_check_weights),
    ] = Field(default_factory=dict)
    """Signals of the score with their weights, which need not sum to 100; default: the profile's."""
    queue_maximum: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Waiting requests that count as a full queue; default: 10 in llm, 100 in classic."""
    precise: bool = False
    """On: a node is named for each request from numbers a quarter of a second old; the weights decide without it."""


class VersionShare(Shape):
    """A version of the model and the share of requests it gets."""

    version: Version
    """One that a node lists for the model."""
    share: Annotated[int, Field(ge=0, le=100)]
    """Percent of the requests that ask for no version."""


def _check_versions(versions: tuple[VersionShare, ...]) -> tuple[VersionShare, ...]:
    names = [entry.version for entry in versions]
    for index, name in enumerate(names):
        if name in names[:index]:
            about = [(at, "version") for at in (index, names.index(name))]
            raise fault("names a version twice", "remove one", cure=(index,), about=about)
    total = sum(entry.share for entry in versions)
    if versions and total != 100:
        whole = [{"version": name, "share": 0 if index else 100} for index, name in enumerate(names)]
        raise fault(f"has shares that sum to {total}", "make them sum to 100", instead=whole, about=[()])
    return tuple(sorted(versions, key=lambda entry: entry.version))


RETRIES_MOST: Final = 5  # tries after the first


class Retry(Shape):
    """Another try on another node, before the first byte has gone to the client."""

    attempts: Annotated[int, Field(ge=0, le=RETRIES_MOST)] = 2
    """How often at most, after the first try."""
    budget: Percentage = 100.0
    """Retries at once, in percent of what is in flight (10,000 before a fallback): what a dead node held must fit."""


class Timeouts(Shape):
    """How long a request may take. An answer in one piece has only the total; the others bound streams."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "(!has(self.firstToken) || duration(self.firstToken) <= duration(self.total))"
            " && (!has(self.idle) || duration(self.idle) <= duration(self.total))",
            "firstToken and idle must not exceed total",
        )
    )

    total: Annotated[Duration, Within("100ms", "24h")] = 900.0
    """From the request's first byte to the answer's last."""
    # A shorter total alone is a complete wish, so it lowers the defaults of the two others.
    first_token: Annotated[Duration, Within("100ms", "24h")] = Field(
        default_factory=lambda data: min(60.0, data.get("total", 60.0))
    )
    """Until a stream's head, which many engines send before the first token; default: 60s, or the total if less."""
    idle: Annotated[Duration, Within("100ms", "24h")] = Field(
        default_factory=lambda data: min(30.0, data.get("total", 30.0))
    )
    """Between two parts of a stream, or twice firstToken where that is longer; default: 30s, or the total if less."""

    @model_validator(mode="after")
    def _check_total(self) -> Timeouts:
        for field, value in (("firstToken", self.first_token), ("idle", self.idle)):
            if value > self.total:
                remedy = f"raise total, or lower {field}"
                raise fault(f"{field} exceeds total", remedy, cure=(field,), about=[("total",)])
        return self


class Fallback(Shape):
    """A model that serves when no node of the pool can."""

    model: ModelName
    """Name of the model."""


def _check_fallback(fallback: tuple[Fallback, ...]) -> tuple[Fallback, ...]:
    for index, entry in enumerate(fallback):
        if entry in fallback[:index]:
            about = [(at, "model") for at in (index, fallback.index(entry))]
            raise fault("names a model twice", "remove one", cure=(index,), about=about)
    return fallback


class RoutePolicySpec(Shape):
    """What the policy asks for."""

    match: Match = Match()
    """Which requests it speaks for; default: all."""
    nodes: NodeSelector | None = None
    """Default: every node of the namespace that serves the model."""
    balance: Balance = Balance()
    """How load becomes score and weight."""
    default_model: ModelName | None = None
    """For a request of the matched types that names no model; where none are named, of the types that it serves."""
    versions: Annotated[
        tuple[VersionShare, ...],
        Field(
            strict=False,
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["version"]}
            | cel("size(self) == 0 || self.map(v, v.share).sum() == 100", "the shares must sum to 100"),
        ),
        AfterValidator(_check_versions),
    ] = ()
    """Shares of the model's versions, for requests that ask for none; a canary is a small share."""
    retry: Retry = Retry()
    """Another try on another node, before the first byte has gone to the client."""
    timeouts: Timeouts = Timeouts()
    """How long a request may take."""
    fallback: Annotated[
        tuple[Fallback, ...],
        Field(
            strict=False,
            max_length=4,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["model"]},
        ),
        AfterValidator(_check_fallback),
    ] = ()
    """Models to serve with when no node of the pool can, first to last."""


class RoutePolicy(Resource):
    """Which requests it speaks for, and how they are spread, retried, timed and caught when nothing serves."""

    api_version: Literal["weighbridge.dev/v1alpha1"] = API_VERSION
    kind: Literal["RoutePolicy"] = "RoutePolicy"
    spec: RoutePolicySpec = RoutePolicySpec()
