"""Values that travel between the rooms of the control plane. Plain frozen data: equality is meaning.

Absent is not zero: a signal that a node did not report is None and stays None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_metrics.sample import LoadSample


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Names one object. `kind` is ModelNode or RoutePolicy."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An object that is invalid now. `held` says whether its last valid form is still served."""

    ref: Ref
    message: str
    held: bool
    #: Of the invalid form, in a cluster; 0 and "" in files.
    generation: int = 0
    uid: str = ""

    @property
    def told(self) -> str:
        """What is wrong, and what serves now."""
        served = "its last valid form is still served" if self.held else "it is not served until it is valid"
        return f"{self.message}; {served}"


@dataclass(frozen=True, slots=True, order=True)
class ServiceEndpoint:
    """One pod behind a Service, or one address without a pod. `ports` are its own numbers by the port's name."""

    address: str  # IP literal
    pod: str  # "" where it has none
    ports: tuple[tuple[str, int], ...]
    ready: bool
    #: On its way out: it finishes what it has and gets nothing new.
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A Service as the cluster has it. `ports` are (name, number) of the Service; all sorted."""

    ports: tuple[tuple[str, int], ...] = ()
    endpoints: tuple[ServiceEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What users asked for, complete and valid, however it was read. Objects are sorted by namespace and name."""

    nodes: tuple[ModelNode, ...] = ()
    policies: tuple[RoutePolicy, ...] = ()
    #: (namespace, secret name) -> entry -> value. Never printed, never hashed into a name that is shown.
    secrets: Mapping[tuple[str, str], Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    rejections: tuple[Rejection, ...] = ()
    #: host name -> IP literal; a name that could not be resolved is absent.
    addresses: Mapping[str, str] = field(default_factory=dict)
    #: Whom the operator's machine trusts, in PEM; None where it has no such file.
    authorities: bytes | None = None
    #: (namespace, name) -> the Services that nodes name; one that does not exist is absent.
    services: Mapping[tuple[str, str], ServiceState] = field(default_factory=dict)
    #: Addresses of the gateway's own Envoys, as far as a cluster knows them.
    envoys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EnvoyPlace:
    """Where an Envoy's statistics are; `sure` means that it must answer: it is ready, and is to stay."""

    url: str
    sure: bool


EnvoyPlaces = Mapping[str, EnvoyPlace]  # by the pod's name


class Objects(Protocol):
    """What a source of objects has read last. `problems` say what is wrong with the source itself, one line each."""

    @property
    def desired(self) -> DesiredState: ...
    @property
    def rejections(self) -> Sequence[Rejection]: ...
    @property
    def problems(self) -> Sequence[object]: ...


@dataclass(frozen=True, slots=True)
class Pages:
    """Where a node prints its metrics. `mapping`: how they are read in engine "custom", the object's own JSON or ""."""

    urls: tuple[str, ...]
    mapping: str = ""


@dataclass(frozen=True, slots=True)
class LoadRound:
    """All that one round of asking brought: every node's sample and, from the same instant, every Envoy's counts."""

    at: float  # seconds, the moment at which the round began
    #: By node, "namespace/name"; a node that could not be asked has a sample with its error.
    samples: Mapping[str, LoadSample]
    #: (pool name, node) -> requests in flight, summed over ALL Envoys; None when one live Envoy could not be read.
    inflight: Mapping[tuple[str, str], int] | None = None
