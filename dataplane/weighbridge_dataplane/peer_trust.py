"""Whom a data plane takes for another one: TLS in both directions, by certificates of one name and one authority.

The files are those of a mounted Secret: read as one, behind the link `..data` that kubelet swaps, and anew when they
change. Blocking: for a thread.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from weighbridge_api.wire import PEER_IDENTITY

FILES = ("ca.crt", "tls.crt", "tls.key")
LONGEST = 256 * 1024  # bytes of one


class TrustError(Exception):
    """The files can't be used; names the directory, never what is in them."""


class Trust:
    """What to connect and to be connected to with; None until there is something. `version` rises with each change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: tuple[bytes, ...] = ()
        self.server: ssl.SSLContext | None = None
        self.client: ssl.SSLContext | None = None
        self.version = 0

    def load(self) -> None:
        """Looks whether the files are others. Raises TrustError; what was there before stays in use."""
        try:
            swapped = self._directory / "..data"
            place = swapped.resolve(strict=True) if swapped.is_symlink() else self._directory
            found = tuple(_read(place / name) for name in FILES)
            if found == self._known:
                return
            server, client = (_make(kind, place) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
        except ssl.SSLError as error:
            reason = error.reason or "not in PEM form"
            raise TrustError(f"{self._directory}: {', '.join(FILES)} can't be used: {reason}") from None
        except OSError as error:
            name = Path(error.filename).name if error.filename else ""
            raise TrustError(f"{self._directory}: {error.strerror or 'cannot be read'}: {name}") from None
        self._known, self.server, self.client = found, server, client
        self.version += 1


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LONGEST)


def _make(kind: int, place: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # addresses come and go; the name is the same for all, and looked at by `is_peer`
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(place / "ca.crt")
    context.load_cert_chain(place / "tls.crt", place / "tls.key", password="")
    if kind == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # what was taken up again would not be looked at again
    return context


def is_peer(certificate: dict[str, Any] | None) -> bool:
    """Whether this certificate, which an authority of ours has signed, is a data plane's."""
    return ("URI", PEER_IDENTITY) in (certificate or {}).get("subjectAltName", ())


def read_end(certificate: dict[str, Any]) -> float:
    """When it expires, in seconds since 1970."""
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


def explain(error: Exception) -> str:
    """Why there is no connection, in the words of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}"
    return str(getattr(error, "strerror", None) or type(error).__name__)
