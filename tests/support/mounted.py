"""A Secret as kubelet mounts it: files are links through `..data`, and a change is one rename of that link."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from weighbridge_operator.trust.minting import CLIENT, SERVER, Pair, issue, make_authority
from weighbridge_operator.trust.rotation import envoy_identity

NOW = datetime.now(UTC)
IDENTITY = envoy_identity("weighbridge")


class Mounted:
    """A directory with the entries of one Secret."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._number = directory, 0
        directory.mkdir(parents=True)

    def put(self, entries: Mapping[str, bytes]) -> None:
        """Replaces all entries at once."""
        self._number += 1
        version = self.directory / f"..v{self._number}"
        version.mkdir()
        for name, value in entries.items():
            (version / name).write_bytes(value)
        link = self.directory / "..data"
        before = link.resolve() if link.is_symlink() else None
        (self.directory / "..data_tmp").symlink_to(version.name)
        (self.directory / "..data_tmp").rename(link)
        for name in entries:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        if before is not None:
            shutil.rmtree(before)


def side(pair: Pair, *trusted: Pair) -> dict[str, bytes]:
    """The three entries of one side."""
    authorities = b"".join(authority.certificate_pem for authority in trusted)
    return {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem, "ca.crt": authorities}


def server(authority: Pair, *names: str, days: int = 30) -> Pair:
    return issue(authority, NOW, SERVER, dns=names or ("localhost",), life=timedelta(days=days))


def envoy(authority: Pair, *uris: str, days: int = 30, now: datetime = NOW) -> Pair:
    return issue(authority, now, CLIENT, uris=uris or (IDENTITY,), life=timedelta(days=days))


def authority() -> Pair:
    return make_authority(NOW)
