"""Whom this machine trusts. Envoy has no trust of its own: for nodes with TLS it is told these certificates."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

#: Where systems keep them: Debian and Alpine, Fedora and RHEL, SUSE, others.
FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
LONGEST = 2 << 20  # bytes; Envoy is sent all of it in one message
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
log = logging.getLogger("weighbridge")


def read_authorities(files: Sequence[str] = FILES) -> bytes | None:
    """The system's authorities in PEM, of `SSL_CERT_FILE` where that is set; None where there are none."""
    for name in [named] if (named := os.environ.get("SSL_CERT_FILE")) else files:
        try:
            with Path(name).open("rb") as file:
                text = file.read(LONGEST + 1)
        except OSError:
            continue
        if len(text) > LONGEST:
            log.warning("%s has more than %d MiB and is not used", name, LONGEST >> 20)
        elif blocks := _BLOCK.findall(text):
            return b"\n".join(blocks) + b"\n"
    return None
