"""What to do next with the operator's own certificates, given what its Secrets hold and the time. Pure.

One Secret is the operator's: the authorities that are trusted (ca.crt), the key of the one that signs (ca.key), the
server's pair, and for a while the key of the next authority (next.key). The other one is the Envoys': their pair and
ca.crt, so that no Envoy ever holds a key that signs or the server's. A third one is the data planes', made likewise.

An authority is replaced in steps, because what a pod has mounted is minutes old: the next one is ANNOUNCEd, trusted but
not yet used; a day later it signs (PROMOTE) and everything is issued anew; the old one stays trusted until it expires.
Leaves are REISSUEd after two thirds of their life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from weighbridge_operator.trust.material import (
    AUTHORITIES,
    CERTIFICATE,
    SKEW,
    MaterialError,
    Pair,
    PrivateKey,
    read_certificates,
    read_key,
    read_material,
)

SIGNING, NEXT = "ca.key", "next.key"
#: Between an authority's announcement and its first signature: what a pod has mounted must be younger than this.
OVERLAP = timedelta(days=1)
#: Part of a life after which a successor is made.
WORN = 2 / 3

Entries = Mapping[str, bytes]


class Step(Enum):
    """One change of one Secret; KEEP is none."""

    KEEP = "keep"
    MAKE = "make"  # all of it anew
    ANNOUNCE = "announce"
    PROMOTE = "promote"
    REISSUE = "reissue"
    TRIM = "trim"  # authorities that have expired go
    TRUST = "trust"  # the authorities of the other Secret are taken over


@dataclass(frozen=True, slots=True)
class Authorities:
    """Of the operator's Secret: all that are trusted, the one that signs, and the one that will."""

    trusted: tuple[x509.Certificate, ...]
    signing: Pair
    next: Pair | None


def plan_own(entries: Entries, names: frozenset[str], now: datetime) -> Step:
    """The next step for the operator's Secret; `names` are the DNS names that the server must have."""
    try:
        authorities = read_authorities(entries)
    except MaterialError:
        return Step.MAKE
    signing, following = authorities.signing.certificate, authorities.next
    if not signing.not_valid_before_utc <= now < signing.not_valid_after_utc:
        step = Step.MAKE
    elif following is not None and now >= following.certificate.not_valid_before_utc + SKEW + OVERLAP:
        step = Step.PROMOTE
    elif following is None and is_worn(signing, now):
        step = Step.ANNOUNCE
    elif not _holds(entries, signing, now, dns=names):
        step = Step.REISSUE
    elif any(certificate.not_valid_after_utc <= now for certificate in authorities.trusted):
        step = Step.TRIM
    else:
        step = Step.KEEP
    return step


def plan_leaf(own: Entries, entries: Entries, identity: str, now: datetime) -> Step:
    """The next step for the Secret of Envoys or of data planes, whose URI is `identity`; `own` is settled."""
    signing = read_authorities(own).signing.certificate
    if not _holds(entries, signing, now, uris=frozenset({identity})):
        return Step.REISSUE
    return Step.KEEP if entries.get(AUTHORITIES) == own[AUTHORITIES] else Step.TRUST


def read_authorities(entries: Entries) -> Authorities:
    """Raises MaterialError where no key signs, or one belongs to no authority."""
    trusted = read_certificates(entries.get(AUTHORITIES, b""), AUTHORITIES)
    signing = _find(trusted, read_key(entries.get(SIGNING, b""), SIGNING))
    try:
        following = _find(trusted, read_key(entries.get(NEXT, b""), NEXT))
    except MaterialError:
        return Authorities(trusted, signing, None)  # it is made anew when it is needed
    return Authorities(trusted, signing, following)


def is_worn(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is time for a successor."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + WORN * (end - begin)


def names_of(certificate: x509.Certificate) -> tuple[frozenset[str], frozenset[str]]:
    """DNS names and URIs that it speaks for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset(), frozenset()
    dns, uris = x509.DNSName, x509.UniformResourceIdentifier
    return frozenset(found.get_values_for_type(dns)), frozenset(found.get_values_for_type(uris))


def _find(trusted: tuple[x509.Certificate, ...], key: PrivateKey) -> Pair:
    wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for certificate in trusted:
        if certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == wanted:
            return Pair(certificate, key)
    raise MaterialError(f"no authority of {AUTHORITIES} belongs to the key that signs")


def _holds(
    entries: Entries,
    signing: x509.Certificate,
    now: datetime,
    *,
    dns: frozenset[str] = frozenset(),
    uris: frozenset[str] = frozenset(),
) -> bool:
    """Whether the pair in CERTIFICATE and KEY is good, young, signed by `signing` and has exactly these names."""
    try:
        read_material(entries, trusts=True, now=now)
        leaf = read_certificates(entries[CERTIFICATE], CERTIFICATE)[0]
        leaf.verify_directly_issued_by(signing)
    except (MaterialError, ValueError, TypeError, InvalidSignature):
        return False
    return names_of(leaf) == (dns, uris) and leaf.not_valid_before_utc <= now and not is_worn(leaf, now)


def envoy_identity(gateway: str) -> str:
    """The URI among the names of an Envoy's certificate."""
    return f"urn:weighbridge:envoy:{gateway}"


def server_names(service: str, namespace: str) -> frozenset[str]:
    """What the operator's Service is called in the cluster, from any namespace."""
    return frozenset(
        {f"{service}.{namespace}", f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local"}
    )
