"""What the control plane says of itself at one moment: the value behind `status`, `explain` and the live table.

Frozen data that converts to JSON with `dataclasses.asdict`. What is not known is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConditionReport:
    type: str  # Accepted, ResolvedRefs, Programmed, MetricsFresh, Ready
    status: str  # True, False, Unknown
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SignalReport:
    signal: str
    value: float  # as measured
    share: float  # of its full value, 0..1
    points: float  # what it adds to the score
    source: str | None = None  # "scrape", or which Prometheus; None where it follows from the gateway's own counts
    age: float | None = None  # seconds
    full: float | None = None  # points that its full value would make


@dataclass(frozen=True, slots=True)
class FactorsReport:
    """What a weight is made of: it goes as (room * trimmed * left)^2 * speed. Each beside the pool's median."""

    room: float
    trimmed: float  # what lasting evidence takes from the room, or adds to it
    left: float  # what others' requests leave of it
    speed: float


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """One server of a node in one pool."""

    pool: str
    address: str  # "ip:port"
    score: float | None  # 0..100, low is good
    parts: tuple[SignalReport, ...]
    weight: int
    weight_share: float  # percent of the pool's weights
    requests: int | None  # answered since the start, by all Envoys
    request_share: float | None  # percent of the pool's requests of the last seconds
    inflight: int | None  # our requests on it now, all Envoys
    waiting: float | None
    running: float | None
    kv: float | None  # 0..1
    age: float | None  # seconds since its numbers were taken
    healthy: bool | None  # False where an Envoy ejected it or its health check fails
    reason: str  # one sentence
    tier: str = "standard"  # the spec of the machine, as the user says
    name: str = ""  # which server of the node: of a Service the pod; "" where the node is one server
    factors: FactorsReport | None = None
    down: float | None = None  # seconds for which it has been out of service
    error: str | None = None  # why numbers of it are missing


@dataclass(frozen=True, slots=True)
class ObjectReport:
    kind: str
    namespace: str
    name: str
    conditions: tuple[ConditionReport, ...]
    endpoints: tuple[EndpointReport, ...] = ()  # of a ModelNode
    pools: tuple[str, ...] = ()  # of a RoutePolicy: where its requests go
    generation: int = 0  # of the object as the cluster has it, from which this was made; 0 in files
    uid: str = ""

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.conditions)


@dataclass(frozen=True, slots=True)
class PoolReport:
    name: str
    profile: str  # llm or classic
    equal: bool  # all weights equal: Envoy compares its own counts
    load: float | None  # mean score by room
    guard: float | None  # seconds for which others' load is still ignored, because it swung
    nodes: tuple[str, ...]  # its servers: "namespace/name", of a Service "namespace/name/pod"
    pushes: int  # weight changes since the start
    #: What leads here, "policy: model" each ("default" where no policy speaks), bounded; the name is the first.
    serves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KindReport:
    """One kind of resource on one Envoy."""

    kind: str  # CDS, EDS, SDS, LDS, RDS
    offered: str  # version
    accepted: str | None
    rejected: str | None  # the names of what it refuses
    error: str | None  # why, in Envoy's words


@dataclass(frozen=True, slots=True)
class EnvoyReport:
    id: str
    build: str
    connected: float | None  # seconds; None where it is connected to another replica
    current: bool  # holds all that it was offered
    kinds: tuple[KindReport, ...]
    error: str | None = None  # why its statistics could not be read


@dataclass(frozen=True, slots=True)
class PrometheusReport:
    """One replica of the Prometheus that is asked for load."""

    name: str  # host:port
    queries: int  # since the start
    failures: int
    age: float | None  # seconds, of the newest number that it gave
    skew: float | None  # seconds that its clock is ahead of this machine's; ages do not depend on it
    error: str | None  # why it gives nothing now


@dataclass(frozen=True, slots=True)
class CertificateReport:
    name: str  # entrance or xds
    until: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Remarks:
    """What the settings and the certificates give to say."""

    notices: tuple[str, ...] = ()  # one line each: what is as it was asked for, and may yet surprise
    certificates: tuple[CertificateReport, ...] = ()


@dataclass(frozen=True, slots=True)
class WriterReport:
    """What brings this report onto the objects of a cluster."""

    leads: bool  # this replica writes
    holder: str  # the replica that holds the Lease, as far as it is known; "" where none does
    written: int  # statuses since the start
    failed: int  # calls of the API server that failed since the start
    waiting: int  # statuses that wait for the budget or the API server


@dataclass(frozen=True, slots=True)
class Report:
    version: str | None  # of the snapshot; None before the first
    entrance: str  # http://host:port
    objects: tuple[ObjectReport, ...]
    pools: tuple[PoolReport, ...]
    envoys: tuple[EnvoyReport, ...]
    problems: tuple[str, ...]  # one line each: what is wrong with the files, or with Secrets that the flags name
    uptime: float  # seconds
    models: int = 0  # that callers can name, versions not counted
    prometheus: tuple[PrometheusReport, ...] = ()
    remarks: Remarks = Remarks()
    writer: WriterReport | None = None  # in a cluster
