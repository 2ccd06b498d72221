"""The flags that say who may ask whom for what: TLS of xDS, TLS of the entrance, callers' keys."""

from __future__ import annotations

import argparse
from pathlib import Path

from weighbridge_operator.settings import SecuritySettings


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
    parser.add_argument(
        "--xds-tls-directory",
        type=Path,
        metavar="DIR",
        help="serve Envoys over mutual TLS with tls.crt, tls.key and ca.crt from here; replaced while it runs",
    )


def read_security(options: argparse.Namespace) -> SecuritySettings:
    """What the flags settle."""
    return SecuritySettings(
        xds_directory=getattr(options, "xds_tls_directory", None),
        entrance=getattr(options, "entrance_tls_secret", None),
        keys=getattr(options, "keys_secret", None),
    )
