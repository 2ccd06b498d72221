"""Takes a step that `rotation` planned: the Secret's entries before, and after."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from weighbridge_operator.trust.material import AUTHORITIES, CERTIFICATE, KEY, MaterialError, Pair, read_certificates
from weighbridge_operator.trust.minting import SERVER, Uses, issue, make_authority
from weighbridge_operator.trust.rotation import NEXT, SIGNING, Entries, Step, read_authorities


def take_own(step: Step, entries: Entries, names: frozenset[str], now: datetime) -> dict[str, bytes]:
    """The operator's Secret after `step`."""
    match step:
        case Step.KEEP:
            return dict(entries)
        case Step.MAKE:
            return _make(entries, names, now)
        case Step.ANNOUNCE:
            new = make_authority(now)
            return {**entries, AUTHORITIES: entries[AUTHORITIES] + new.certificate_pem, NEXT: new.key_pem}
        case Step.PROMOTE:
            promoted = {**entries, SIGNING: entries[NEXT]}
            del promoted[NEXT]
            return _with_server(promoted, names, now)
        case Step.REISSUE:
            return _with_server(entries, names, now)
        case Step.TRIM:
            return {**entries, AUTHORITIES: _print(_living(read_authorities(entries).trusted, now))}
        case _:
            raise ValueError(step)


def take_leaf(step: Step, own: Entries, entries: Entries, identity: str, uses: Uses, now: datetime) -> dict[str, bytes]:
    """The Secret of Envoys or data planes after `step`."""
    match step:
        case Step.KEEP:
            return dict(entries)
        case Step.TRUST:
            return {**entries, AUTHORITIES: own[AUTHORITIES]}
        case Step.REISSUE:
            pair = issue(read_authorities(own).signing, now, uses, uris=[identity])
            return {**_print_pair(pair), AUTHORITIES: own[AUTHORITIES]}
        case _:
            raise ValueError(step)


def _make(entries: Entries, names: frozenset[str], now: datetime) -> dict[str, bytes]:
    # Authorities that can still be read stay trusted: whoever has a certificate of theirs is not shut out.
    new = make_authority(now)
    try:
        old = _living(read_certificates(entries.get(AUTHORITIES, b""), AUTHORITIES), now)
    except MaterialError:
        old = ()
    made = {AUTHORITIES: _print([new.certificate, *old][:8]), SIGNING: new.key_pem}
    return _with_server(made, names, now)


def _with_server(entries: Entries, names: frozenset[str], now: datetime) -> dict[str, bytes]:
    pair = issue(read_authorities(entries).signing, now, SERVER, dns=sorted(names))
    return {**entries, **_print_pair(pair)}


def _living(certificates: Iterable[x509.Certificate], now: datetime) -> tuple[x509.Certificate, ...]:
    return tuple(certificate for certificate in certificates if now < certificate.not_valid_after_utc)


def _print(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _print_pair(pair: Pair) -> dict[str, bytes]:
    return {CERTIFICATE: pair.certificate_pem, KEY: pair.key_pem}
