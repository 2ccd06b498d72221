"""ModelNode: a model server or a Service of equal ones, where it listens, what it serves, where its load is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from weighbridge_api.base import API_VERSION, ModelType, Resource, SecretRef, Shape, sort_mapping
from weighbridge_api.faults import fault
from weighbridge_api.values import (
    BasePath,
    DnsName,
    Duration,
    Host,
    ModelName,
    ObjectName,
    Promql,
    SecretEntry,
    SeriesLabel,
    SeriesValue,
    ServedName,
    ServiceName,
    ServicePort,
    UrlPath,
    Version,
    Within,
    cel,
)

Engine = Literal["vllm", "sglang", "tgi", "triton", "llamacpp", "openai"]
Tier = Literal["high", "standard"]
Port = Annotated[int, Field(ge=1, le=65535)]


class Address(Shape):
    """Where the node listens."""

    host: Host
    """IP address or DNS name; a name is also sent as Host and SNI."""
    port: Port
    """TCP port."""
    path: BasePath = "/v1"
    """The node's base path: what callers ask for under /v1 is asked for under this."""


class Service(Shape):
    """A Service of the same namespace; every endpoint of it that is ready is weighed on its own."""

    name: ServiceName
    """Name of the Service."""
    port: ServicePort
    """Its port: the number or the name that the Service gives it."""
    path: BasePath = "/v1"
    """The base path of its endpoints, as in address."""


class Tls(Shape):
    """TLS towards the node."""

    ca_secret_ref: SecretRef | None = None
    """Secret whose entry ca.crt holds the authorities to trust instead of the system's."""
    server_name: DnsName | None = None
    """Name to ask for (SNI) and to find in the certificate; default: the host, of a Service name.namespace.svc."""


class SecretEntryRef(Shape):
    """One entry of a secret of the same namespace."""

    name: ObjectName
    """Name of the secret."""
    key: SecretEntry
    """Name of the entry."""


class Credentials(Shape):
    """What the gateway sends to the node to be let in; callers' own keys never reach it."""

    secret_ref: SecretEntryRef
    """The secret's entry that holds the key."""


def _check_types(types: tuple[ModelType, ...]) -> tuple[ModelType, ...]:
    if len(set(types)) != len(types):
        raise fault("names a type twice", "remove one")
    return tuple(sorted(types))


Types = Annotated[
    tuple[ModelType, ...],
    Field(strict=False, max_length=5, json_schema_extra={"x-kubernetes-list-type": "set"}),
    AfterValidator(_check_types),
]


class Model(Shape):
    """A model that the node serves."""

    name: ModelName
    """What callers say."""
    types: Annotated[Types, Field(min_length=1)] = ("text",)
    """The kinds of request it answers."""
    version: Version | None = None
    """Versions of a model live side by side; callers ask for one as name@version."""
    served_as: ServedName | None = None
    """What this node calls it; default: its name."""


def _check_models(models: tuple[Model, ...]) -> tuple[Model, ...]:
    seen: set[tuple[str, str | None]] = set()
    for model in models:
        if (model.name, model.version) in seen:
            spelled = model.name if model.version is None else f"{model.name}, version {model.version},"
            raise fault(f"{spelled} is listed twice", "remove one, or give them different versions")
        seen.add((model.name, model.version))
    return models


_MODELS_RULE = cel(
    "self.all(a, self.exists_one(b, a.name == b.name && (has(a.version) ? a.version : '') == "
    "(has(b.version) ? b.version : '')))",
    "a model is listed twice with the same version",
)
Models = Annotated[
    tuple[Model, ...],
    Field(strict=False, min_length=1, max_length=64, json_schema_extra=_MODELS_RULE),
    AfterValidator(_check_models),
]


class Scrape(Shape):
    """One endpoint of the node's host that prints metrics in Prometheus' format."""

    port: Port
    """TCP port."""
    path: UrlPath = "/metrics"
    """Path of the metrics."""


def _check_scrape(scrape: tuple[Scrape, ...]) -> tuple[Scrape, ...]:
    if len(set(scrape)) != len(scrape):
        raise fault("names an endpoint twice", "remove one")
    return scrape


LoadSignal = Literal[
    "cpu", "memory", "gpu", "gpuMemory", "kv", "queue", "running", "latency", "generatedTokens", "roomTokens"
]
_SIGNALS = get_args(LoadSignal)


class Prometheus(Shape):
    """How the node is found in the Prometheus that the gateway asks."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "!has(self.times) || (has(self.queries) && "
            + " && ".join(f"(!has(self.times.{signal}) || has(self.queries.{signal}))" for signal in _SIGNALS)
            + ")",
            "times names a signal without a query",
        )
    )

    match: Annotated[Mapping[SeriesLabel, SeriesValue], Field(max_length=8), AfterValidator(sort_mapping)] = Field(
        default_factory=dict
    )
    """Labels that its series carry, beside a Service endpoint's pod and namespace; default: its host as instance."""
    queries: Annotated[
        Mapping[
            LoadSignal, Annotated[Promql, Field(description="A selector, or an expression with its time in times.")]
        ],
        Field(max_length=10),
        AfterValidator(sort_mapping),
    ] = Field(default_factory=dict)
    """Queries of your own, in the place of the known ones; their series may carry no other value of a matched label."""
    times: Annotated[
        Mapping[LoadSignal, Annotated[Promql, Field(description="An expression, as min(timestamp(my_queue)).")]],
        Field(max_length=10),
        AfterValidator(sort_mapping),
    ] = Field(default_factory=dict)
    """For each query that is no selector: an expression for the Unix time of its numbers."""

    @model_validator(mode="after")
    def _check_times(self) -> Prometheus:
        alone = [signal for signal in self.times if signal not in self.queries]
        if alone:
            raise fault(f"times has {alone[0]}, queries has not", "add the query, or remove the time")
        return self


class Metrics(Shape):
    """Where the node's load is read."""

    model_config = ConfigDict(
        json_schema_extra=cel("has(self.scrape) || has(self.prometheus)", "give scrape, prometheus or both")
    )

    scrape: (
        Annotated[
            tuple[Scrape, ...],
            Field(
                strict=False,
                min_length=1,
                max_length=8,
                json_schema_extra=cel(
                    "self.all(a, self.exists_one(b, a.port == b.port && a.path == b.path))",
                    "an endpoint is named twice",
                ),
            ),
            AfterValidator(_check_scrape),
        ]
        | None
    ) = None
    """The engine's own endpoint, and node_exporter and DCGM beside it; default: nothing is asked directly."""
    prometheus: Prometheus | None = None
    """What the gateway's Prometheus knows of it; empty finds it by its pod or its host."""

    @model_validator(mode="after")
    def _check_source(self) -> Metrics:
        if not self.scrape and self.prometheus is None:
            raise fault("has neither scrape nor prometheus", "give one of them, or remove metrics")
        return self


class Health(Shape):
    """How the gateway asks whether the node is well."""

    path: UrlPath | None = None
    """Default: the engine's own."""
    interval: Annotated[Duration, Within("1s", "5m")] = 5.0
    """How often it asks."""


class ModelNodeSpec(Shape):
    """What the node is."""

    model_config = ConfigDict(
        json_schema_extra=cel("has(self.address) != has(self.service)", "give exactly one of address and service")
    )

    engine: Engine
    """What runs there; triton is TensorRT-LLM, openai any server that speaks OpenAI's API and publishes no load."""
    address: Address | None = None
    """Where it listens; exactly one of address and service is given."""
    service: Service | None = None
    """In a cluster: the Service whose ready endpoints it is, each weighed on its own."""
    tls: Tls | None = None
    """TLS towards the node; default: none. Empty trusts the system's authorities."""
    credentials: Credentials | None = None
    """What the gateway sends to be let in; default: nothing."""
    tier: Tier = "standard"
    """The spec of the machine."""
    models: Models
    """What it serves."""
    capacity: Annotated[float, Field(gt=0, le=1e12)] | None = None
    """Room, in any unit that the nodes of a pool share; default: what the engine publishes."""
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests that a server without load metrics works on at once."""
    metrics: Metrics | None = None
    """Default: the engine's own endpoint, and what the gateway's Prometheus knows of the node."""
    health: Health | None = None
    """Default: the engine's own."""

    @model_validator(mode="after")
    def _check_place(self) -> ModelNodeSpec:
        if self.address is None and self.service is None:
            raise fault("has neither address nor service", "give one of them")
        if self.address is not None and self.service is not None:
            raise fault("has both address and service", "remove one")
        return self

    @property
    def host(self) -> str | None:
        """IP address or DNS name; None for a Service."""
        return self.address.host if self.address else None


class ModelNode(Resource):
    """A model server or a Service of equal ones: where it listens, what it serves, and where its load is read."""

    api_version: Literal["weighbridge.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelNode"] = "ModelNode"
    spec: ModelNodeSpec

    @property
    def id(self) -> str:
        """`namespace/name`: the node's identity everywhere."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
