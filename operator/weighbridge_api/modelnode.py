"""ModelNode: a model server or a Service of equal ones, where it listens, what it serves, where its load is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from weighbridge_api.base import API_VERSION, ModelType, Resource, SecretRef, Shape
from weighbridge_api.faults import fault
from weighbridge_api.metrics import Metrics, Port
from weighbridge_api.values import (
    BasePath,
    DnsName,
    Duration,
    Host,
    ModelName,
    ObjectName,
    SecretEntry,
    ServedName,
    ServiceName,
    ServicePort,
    UrlPath,
    Version,
    Within,
    cel,
    cel_all,
)

Engine = Literal["vllm", "sglang", "tgi", "triton", "llamacpp", "openai", "custom"]
Tier = Literal["high", "standard"]
Format = Literal["openai", "anthropic", "gemini"]


class Address(Shape):
    """Where the node listens."""

    host: Host
    """IP address or DNS name; a name is also sent as Host and SNI."""
    port: Port
    """TCP port."""
    path: BasePath | None = None
    """The node's base path: what callers ask for under /v1 is asked for under this; default: /v1, of gemini /v1beta."""


class Service(Shape):
    """A Service of the same namespace; every endpoint of it that is ready is weighed on its own."""

    name: ServiceName
    """Name of the Service."""
    port: ServicePort
    """Its port: the number or the name that the Service gives it."""
    path: BasePath | None = None
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
        raise fault("names a type twice", "remove one", instead=sorted(set(types)))
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
    seen: dict[tuple[str, str | None], int] = {}
    for index, model in enumerate(models):
        if (model.name, model.version) in seen:
            spelled = model.name if model.version is None else f"{model.name}, version {model.version},"
            about = [(at, key) for at in (index, seen[model.name, model.version]) for key in ("name", "version")]
            remedy = "remove one, or give them different versions"
            raise fault(f"{spelled} is listed twice", remedy, cure=(index,), about=about)
        seen[model.name, model.version] = index
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


class Health(Shape):
    """How the gateway asks whether the node is well."""

    path: UrlPath | None = None
    """Default: the engine's own."""
    interval: Annotated[Duration, Within("1s", "5m")] = 5.0
    """How often it asks."""


_PLACED = "has(self.address) != has(self.service)"
_MAPPED = "(self.engine == 'custom') == (has(self.metrics) && has(self.metrics.mapping))"


class ModelNodeSpec(Shape):
    """What the node is."""

    model_config = ConfigDict(
        json_schema_extra=cel_all(
            ("has(self.address) != has(self.service)", "give exactly one of address and service"),
            ("self.format == 'openai' || self.models.all(m, m.types == ['text'])", "another format serves text alone"),
            (_MAPPED, "engine custom needs metrics.mapping, and no other engine takes it"),
        )
    )

    engine: Engine
    """What runs there; openai is any server without load metrics, custom one whose metrics are named in mapping."""
    address: Address | None = None
    """Where it listens; exactly one of address and service is given."""
    service: Service | None = None
    """In a cluster: the Service whose ready endpoints it is, each weighed on its own."""
    tls: Tls | None = None
    """TLS towards the node; default: none. Empty trusts the system's authorities."""
    credentials: Credentials | None = None
    """What the gateway sends to be let in; default: nothing."""
    format: Format = "openai"
    """The API that it speaks: it gets what callers ask in this one, and nothing else."""
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
            raise fault("has neither address nor service", "give one of them", cure=("address",))
        if self.address is not None and self.service is not None:
            raise fault("has both address and service", "remove one", cure=("service",))
        if self.format != "openai" and any(model.types != ("text",) for model in self.models):
            message = f"has format {self.format} and a model of another type than text"
            raise fault(message, "let its types be [text]", cure=("format",))
        return self

    @model_validator(mode="after")
    def _check_mapping(self) -> ModelNodeSpec:
        mapped = self.metrics is not None and self.metrics.mapping is not None
        if self.engine == "custom" and not mapped:
            remedy = "name its metrics there, or write engine: openai"
            about = [("metrics", "mapping")]
            raise fault("engine custom has no metrics.mapping", remedy, cure=("engine",), instead="openai", about=about)
        if mapped and self.engine != "custom":
            remedy = "remove it, or write engine: custom"
            raise fault(f"metrics.mapping is not for engine {self.engine}", remedy, cure=("engine",), instead="custom")
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
