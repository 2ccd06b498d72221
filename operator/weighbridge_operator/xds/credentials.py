"""TLS of the ADS server: its certificate and whom it trusts, new ones for each handshake, and who may be served.

gRPC checks that a client's certificate is ours, in date and meant for clients; whose it is must be looked at in the
stream, where the peer's identity is known (https://grpc.io/docs/guides/auth/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import grpc

from weighbridge_operator.trust.material import Material


def make_credentials(current: Callable[[], Material]) -> grpc.ServerCredentials:
    """Asks `current`, from any thread, before each handshake. Clients without a certificate are turned away."""
    held = [current()]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        found = current()
        if found is held[0]:
            return None  # as before
        held[0] = found
        return _configure(found)

    return grpc.dynamic_ssl_server_credentials(_configure(held[0]), fetch, require_client_authentication=True)


def find_stranger(auth: Mapping[str, Iterable[bytes]], identity: str) -> str | None:
    """Why the peer with this authentication context is not served; None where it is."""
    if identity.encode() in auth.get("peer_uri", ()):
        return None
    return f"this certificate is not for an Envoy of this gateway: it must have the URI {identity} among its names"


def _configure(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.authorities)
