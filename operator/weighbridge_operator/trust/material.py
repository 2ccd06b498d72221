"""Certificates and keys in the layout of a `kubernetes.io/tls` Secret (tls.crt, tls.key, ca.crt), checked before use.

What is wrong with one is said in words that name the entry and never quote a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"
LONGEST = 256 * 1024  # bytes of one entry
MOST = 64  # certificates in one entry

SKEW = timedelta(minutes=10)  # by which a peer's clock may be behind ours

_Read = TypeVar("_Read")
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class MaterialError(ValueError):
    """The entries can't be used; each argument says which one, why, and what to do."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


@dataclass(frozen=True, slots=True)
class Material:
    """What one side of a TLS connection has, in PEM: its own chain and key, and whom it trusts (empty: nobody).

    `until`: when its own certificate expires.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    until: datetime


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_material(entries: Mapping[str, bytes], *, trusts: bool, now: datetime | None = None) -> Material:
    """The entries as material. `trusts`: ca.crt is needed, too; `now`: what has expired is refused.

    Raises MaterialError.
    """
    wrong: list[str] = []
    chain, key = _try(read_certificates, entries, CERTIFICATE, wrong), _try(read_key, entries, KEY, wrong)
    if chain is None or key is None:
        raise MaterialError(*wrong)
    if _public(key) != chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise MaterialError(f"{KEY} does not belong to the first certificate of {CERTIFICATE}; replace both together")
    if now is not None and chain[0].not_valid_after_utc <= now:
        raise MaterialError(f"{CERTIFICATE} has expired at {_date(chain[0].not_valid_after_utc)}; renew it")
    authorities = b""
    if trusts:
        read_certificates(_entry(entries, AUTHORITIES), AUTHORITIES)
        authorities = entries[AUTHORITIES]
    return Material(entries[CERTIFICATE], entries[KEY], authorities, chain[0].not_valid_after_utc)


def read_certificates(text: bytes, entry: str) -> tuple[x509.Certificate, ...]:
    """Every certificate in PEM, at least one. Raises MaterialError."""
    if text.count(b"-----BEGIN CERTIFICATE-----") > MOST:
        raise MaterialError(f"{entry} holds more than {MOST} certificates")
    try:
        found = tuple(x509.load_pem_x509_certificates(text))
        for certificate in found:
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise MaterialError(f"{entry} holds no certificate in PEM form that can be read") from None
    return found


def read_key(text: bytes, entry: str) -> PrivateKey:
    """A private key in PEM that Envoy can use, too. Raises MaterialError."""
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MaterialError(f"{entry} holds no private key in PEM form, without a password") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
    ):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return key
    raise MaterialError(f"{entry} must be an ECDSA key (P-256, P-384, P-521) or an RSA key of 2048 bits or more")


def split_certificates(text: bytes) -> tuple[bytes, ...]:
    """The PEM blocks of a text, one certificate each, without reading them."""
    block = rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----"
    return tuple(found + b"\n" for found in re.findall(block, text, re.DOTALL))


def to_utc(seconds: float) -> datetime:
    """The time of the world, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def _entry(entries: Mapping[str, bytes], name: str) -> bytes:
    value = entries.get(name)
    if not value:
        raise MaterialError(f"there is no entry {name}")
    if len(value) > LONGEST:
        raise MaterialError(f"{name} is larger than {LONGEST // 1024} KiB")
    return value


def _try(
    read: Callable[[bytes, str], _Read], entries: Mapping[str, bytes], name: str, wrong: list[str]
) -> _Read | None:
    try:
        return read(_entry(entries, name), name)
    except MaterialError as error:
        wrong.append(str(error))
        return None


def _public(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _date(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
