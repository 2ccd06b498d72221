"""What the settings want of TLS and keys: the material of xDS and the work that keeps it fresh, and the entrance."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address

import grpc

from weighbridge_api.wire import PEER_IDENTITY
from weighbridge_operator.core.doors import Doors
from weighbridge_operator.latest import Latest
from weighbridge_operator.report import CertificateReport, Remarks
from weighbridge_operator.settings import GATEWAY, Settings
from weighbridge_operator.trust.directory import follow_directory, read_directory
from weighbridge_operator.trust.material import Material
from weighbridge_operator.trust.rotation import envoy_identity, server_names
from weighbridge_operator.xds.credentials import make_credentials
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.names import is_literal, print_address
from weighbridge_operator.xds.request_log import RequestLog

NAME = 12  # letters of what a gateway calls itself to others
SOON = 7 * 86400.0  # seconds before a certificate expires that it is told


@dataclass(frozen=True, slots=True)
class Protection:
    """What the ADS server starts with; nothing of it where xDS is in plain text. It never is instead of TLS."""

    settings: Settings
    material: Latest[Material]

    @property
    def wanted(self) -> bool:
        security = self.settings.security
        return security.xds_directory is not None or security.xds_secret is not None

    @property
    def ready(self) -> bool:
        """Whether xDS can be served now; where certificates come from the cluster, that may take a while."""
        return not self.wanted or self.material.get() is not None

    @property
    def credentials(self) -> grpc.ServerCredentials | None:
        return make_credentials(self._current) if self.wanted else None

    @property
    def identity(self) -> str | None:
        """What the certificate of an Envoy must say."""
        return envoy_identity(GATEWAY) if self.wanted else None

    async def run(self) -> None:
        """Keeps the material fresh until cancelled."""
        security, cluster = self.settings.security, self.settings.kubernetes
        if security.xds_directory is not None:
            await follow_directory(security.xds_directory, self.material)
        elif security.xds_secret is not None and cluster is not None:
            # The package kubernetes is there only where it is needed.
            from weighbridge_operator.trust.secret import SecretNames, follow_secret, keep_secret  # noqa: PLC0415

            server = server_names(security.xds_service, cluster.namespace)
            peer = PEER_IDENTITY if security.xds_peers else None
            names = SecretNames(cluster.namespace, security.xds_secret, server, envoy_identity(GATEWAY), peer)
            await follow_secret(keep_secret(names), self.material)

    def _current(self) -> Material:
        material = self.material.get()
        assert material is not None
        return material


async def protect(settings: Settings) -> Protection:
    """Raises MaterialError where a directory holds nothing to serve with."""
    protection = Protection(settings, Latest())
    directory = settings.security.xds_directory
    if directory is not None:
        protection.material.set(await asyncio.to_thread(read_directory, directory, time.time()))
    return protection


def describe_entrance(settings: Settings, cluster: bytes | None) -> Entrance:
    """How callers come in. `cluster`: what tells the cluster that it runs in from others; None outside of one."""
    host, port = settings.entrance
    tls, keys = settings.security.entrance is not None, settings.security.keys is not None
    wanted = settings.requests
    requests = RequestLog(wanted.place, wanted.tokens) if wanted else None
    return Entrance(
        host, port, settings.debug_headers, tls=tls, keys=keys, requests=requests, name=_name_gateway(settings, cluster)
    )


def _name_gateway(settings: Settings, cluster: bytes | None) -> str:
    """The same for all replicas, and another for every other gateway."""
    kubernetes = settings.kubernetes
    if kubernetes is not None and cluster is not None:
        told: tuple[bytes, ...] = (cluster, kubernetes.namespace.encode(), kubernetes.lease.encode())
    else:
        paths = (str(path.resolve()).encode() for path in settings.paths)
        told = (socket.gethostname().encode(), print_address(*settings.entrance).encode(), *paths)
    return hashlib.sha256(b"\0".join(told)).hexdigest()[:NAME]


def print_url(settings: Settings) -> str:
    """Where callers come in."""
    scheme = "http" if settings.security.entrance is None else "https"
    return f"{scheme}://{print_address(*settings.entrance)}"


def list_notices(settings: Settings) -> tuple[str, ...]:
    """What whoever runs this should know; nothing where the entrance is this machine's alone."""
    security, host = settings.security, settings.entrance[0]
    if is_literal(host) and ip_address(host).is_loopback:
        return ()
    notices = []
    if security.keys is None:
        notices.append("Anyone who reaches the entrance may use the nodes: no key is asked for (--keys-secret)")
    if security.entrance is None:
        notices.append("The entrance is plain HTTP, which can be read on the way: use HTTPS (--entrance-tls-secret)")
    return tuple(notices)


def remark(settings: Settings, xds: Material | None, doors: Doors, now: float) -> Remarks:
    """What to say of the settings and the certificates; seconds since 1970."""
    places = (("xds", "xDS", xds), ("entrance", "the entrance", doors.certificate))
    notices = list(list_notices(settings))
    certificates = []
    for name, text, material in places:
        if material is None:
            continue
        until = material.until.timestamp()
        certificates.append(CertificateReport(name, until))
        if until <= now + SOON:
            verb = "has expired" if until <= now else "expires"
            notices.append(f"The certificate of {text} {verb} at {material.until:%Y-%m-%d %H:%M} UTC: renew it")
    return Remarks(tuple(notices), tuple(certificates))
