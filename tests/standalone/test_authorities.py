"""Whom the machine trusts, read where systems keep it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.authority import Authority
from weighbridge_operator.authorities import LONGEST, read_authorities


def test_the_first_file_with_certificates_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    pem = Authority(tmp_path).certificate.read_bytes()
    (tmp_path / "empty.crt").write_text("# none\n")
    (tmp_path / "large.crt").write_bytes(pem * (LONGEST // len(pem) + 1))
    (tmp_path / "two.crt").write_bytes(b"# one\n" + pem + b"# and another\n" + pem)
    names = [str(tmp_path / name) for name in ("nowhere.crt", "empty.crt", "large.crt")]
    assert read_authorities(names) is None
    assert read_authorities([*names, str(tmp_path / "two.crt")]) == pem + pem


def test_the_environment_goes_before_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Authority(tmp_path).certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert read_authorities() == own.read_bytes()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.crt"))
    assert read_authorities() is None
