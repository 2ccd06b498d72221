"""What the command line settles, once; everything below gets it passed down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Output = Literal["auto", "plain", "json"]
GATEWAY = "weighbridge"  # node.cluster of the Envoys that belong here
SERVICE = "weighbridge-operator"  # of the operator, in the cluster
ALL = "*"  # every namespace
LEASE = "weighbridge"


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Of `operator --kubernetes`: objects come from a cluster. Names are those of objects in it."""

    namespace: str  # the gateway's own
    identity: str  # this replica among its siblings: the pod's name
    #: Namespaces whose objects are read, sorted, the own one among them; (ALL,) is every one.
    watch: tuple[str, ...]
    #: Headless Service of the own namespace whose endpoints are the gateway's Envoys; its port is named `stats`.
    envoys: str | None = None
    #: The Lease in the own namespace whose holder writes the objects' status; one for each gateway.
    lease: str = LEASE


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """Who may ask whom for what. Nothing of it: xDS and entrance in plain text, and no key is asked for."""

    xds_directory: Path | None = None  # has tls.crt, tls.key and ca.crt for xDS
    xds_secret: str | None = None  # name of the Secret in which the operator keeps certificates that it makes for xDS
    xds_peers: bool = False  # whether it makes one for data planes as well
    xds_service: str = SERVICE  # name of the operator's Service, for the certificate in that Secret
    entrance: str | None = None  # name of the kubernetes.io/tls Secret of the entrance
    keys: str | None = None  # name of the Secret with callers' keys


@dataclass(frozen=True, slots=True)
class RequestLogSettings:
    """Where Envoy writes a line for each request: a path on its machine, or "-", its standard output."""

    place: str
    tokens: bool = False  # with the tokens that answers tell


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """Where Prometheus is asked for load: the replicas in the order of preference, and what they want to be shown."""

    urls: tuple[str, ...]
    interval: float = 5.0  # seconds between two rounds of queries
    token_file: Path | None = None  # a bearer token
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None  # authorities to trust instead of the system's


@dataclass(frozen=True, slots=True)
class Settings:
    """Of `up`, `demo` and `operator`. Addresses are (host, port); port 0 takes a free one."""

    paths: Sequence[Path]
    entrance: tuple[str, int] = ("127.0.0.1", 8080)
    admin: tuple[str, int] = ("127.0.0.1", 8081)
    xds: tuple[str, int] = ("127.0.0.1", 0)
    namespace: str = "default"
    state: Path | None = None
    debug_headers: bool = True
    concurrency: int = 2
    envoy: str | None = None  # path of the binary; None looks for it
    envoy_memory: int | None = None  # bytes that it may take; None: what there is
    output: Output = "auto"
    live: bool = False  # standard output is a terminal that can be drawn on
    colour: bool = True
    hints: Sequence[str] = ()
    prometheus: PrometheusSettings | None = None
    kubernetes: KubernetesSettings | None = None  # then `paths` is empty
    security: SecuritySettings = SecuritySettings()
    requests: RequestLogSettings | None = None  # None: no request log
    kept_choices: int | None = None  # of the data plane that `up` starts; None: its default
    dataplane_metrics: tuple[str, int] | None = None  # where that one serves its metrics and health
