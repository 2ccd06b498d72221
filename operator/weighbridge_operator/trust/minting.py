"""Makes authorities and certificates: ECDSA P-256, with the uses that each has.

Draws keys and serial numbers; the time is an argument. Certificates begin a little earlier than they are made, because
clocks differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from weighbridge_operator.trust.material import SKEW, Pair

AUTHORITY_LIFE = timedelta(days=730)
LIFE = timedelta(days=90)
Uses = tuple[x509.ObjectIdentifier, ...]
SERVER: Uses = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT: Uses = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def make_authority(now: datetime, life: timedelta = AUTHORITY_LIFE) -> Pair:
    """An authority that signs leaves alone. Each has a name of its own, so that two in one bundle never look alike."""
    key, serial = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
    name = _name(f"weighbridge xDS {serial:040x}"[:60])
    builder = _builder(name, name, key, serial, now, life)
    usage = _usage(signs=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return Pair(builder.sign(key, SHA256()), key)


def issue(
    authority: Pair,
    now: datetime,
    uses: Uses,
    *,
    dns: Iterable[str] = (),
    uris: Iterable[str] = (),
    life: timedelta = LIFE,
) -> Pair:
    """A leaf with these names for SERVER, CLIENT or both together."""
    key, serial = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
    builder = _builder(_name("weighbridge"), authority.certificate.subject, key, serial, now, life)
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
    names += [x509.UniformResourceIdentifier(uri) for uri in uris]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    builder = builder.add_extension(issuer, critical=False)
    return Pair(builder.sign(authority.key, SHA256()), key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).serial_number(serial)
    builder = builder.public_key(key.public_key()).not_valid_before(now - SKEW).not_valid_after(now + life)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
