"""The flags that say who may ask whom for what: TLS of xDS, TLS of the entrance, callers' keys."""

from __future__ import annotations

import argparse
from pathlib import Path

from weighbridge_operator.settings import SERVICE, SecuritySettings


def add_doors(parser: argparse.ArgumentParser) -> None:
    """Flags of `up` and `operator`."""
    parser.add_argument(
        "--entrance-tls-secret", metavar="NAME", help="HTTPS at the entrance with this Secret of type kubernetes.io/tls"
    )
    parser.add_argument(
        "--keys-secret",
        metavar="NAME",
        help="let in callers with a key of this Secret: entry name = client, value = key",
    )


def add_xds(parser: argparse.ArgumentParser) -> None:
    """Flags of `operator`."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--xds-tls-secret",
        metavar="NAME",
        help="serve Envoys over mutual TLS with certificates that the operator makes, renews and keeps in this Secret "
        "and, for Envoys, in NAME-client (with --kubernetes)",
    )
    parser.add_argument(
        "--xds-service", metavar="NAME", help=f"the operator's Service, for that certificate (default: {SERVICE})"
    )
    parser.add_argument(
        "--xds-tls-peers",
        action="store_true",
        help="with --xds-tls-secret: make a certificate for data planes as well, by which they tell each other what "
        "they send, and keep it in NAME-peers",
    )
    source.add_argument(
        "--xds-tls-directory",
        type=Path,
        metavar="DIR",
        help="serve Envoys over mutual TLS with tls.crt, tls.key and ca.crt from here; replaced while it runs",
    )


def read_security(options: argparse.Namespace) -> SecuritySettings:
    """What the flags settle. Raises ValueError with a remedy."""
    secret, service = getattr(options, "xds_tls_secret", None), getattr(options, "xds_service", None)
    if secret is not None and not options.kubernetes:
        raise ValueError("--xds-tls-secret is in a cluster: add --kubernetes, or give files with --xds-tls-directory")
    if service is not None and secret is None:
        raise ValueError("--xds-service is for the certificate of --xds-tls-secret: give that, or leave it out")
    peers = getattr(options, "xds_tls_peers", False)
    if peers and secret is None:
        raise ValueError("--xds-tls-peers is for certificates of --xds-tls-secret: give that, or leave it out")
    return SecuritySettings(
        xds_directory=getattr(options, "xds_tls_directory", None),
        xds_secret=secret,
        xds_peers=peers,
        xds_service=service or SERVICE,
        entrance=getattr(options, "entrance_tls_secret", None),
        keys=getattr(options, "keys_secret", None),
    )
