"""The flags that say who may ask whom for what: TLS of xDS, TLS of the entrance, callers' keys."""

from __future__ import annotations

import argparse
from pathlib import Path

from weighbridge_operator.settings import SecuritySettings


def add_security(parser: argparse.ArgumentParser) -> None:
    """Flags of `operator`."""
    parser.add_argument(
        "--xds-tls-directory",
        type=Path,
        metavar="DIR",
        help="serve Envoys over mutual TLS with tls.crt, tls.key and ca.crt from here; replaced while it runs",
    )


def read_security(options: argparse.Namespace) -> SecuritySettings:
    """What the flags settle."""
    return SecuritySettings(xds_directory=getattr(options, "xds_tls_directory", None))
