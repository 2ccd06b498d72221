"""The flags of TLS and keys: what they mean together, and what is said of the gateway without them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from support.mounted import authority, server, side
from weighbridge_operator.core.doors import Doors
from weighbridge_operator.protection import describe_entrance, list_notices, print_url, remark
from weighbridge_operator.security_flags import add_doors, add_xds, read_security
from weighbridge_operator.settings import SecuritySettings, Settings
from weighbridge_operator.trust.material import read_material


def read(*arguments: str, kubernetes: bool = False) -> SecuritySettings:
    parser = argparse.ArgumentParser()
    add_doors(parser)
    add_xds(parser)
    return read_security(argparse.Namespace(**vars(parser.parse_args(arguments)), kubernetes=kubernetes))


def make(host: str, **security: str) -> Settings:
    return Settings(paths=(), entrance=(host, 8080), security=SecuritySettings(**security))  # type: ignore[arg-type]


def test_nothing_said_is_plain_text_and_no_key() -> None:
    assert read() == SecuritySettings()


def test_what_is_said_is_kept() -> None:
    assert read("--xds-tls-directory", "/tls").xds_directory == Path("/tls")
    own = read("--xds-tls-secret", "xds", "--xds-service", "op", kubernetes=True)
    assert (own.xds_secret, own.xds_service) == ("xds", "op")
    assert not own.xds_peers
    assert read("--xds-tls-secret", "xds", "--xds-tls-peers", kubernetes=True).xds_peers
    doors = read("--entrance-tls-secret", "front", "--keys-secret", "callers")
    assert (doors.entrance, doors.keys) == ("front", "callers")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--xds-tls-secret", "x"), "add --kubernetes"), (("--xds-service", "x"), "--xds-tls-secret")],
)
def test_what_means_nothing_is_refused_with_a_remedy(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(*arguments)


def test_a_directory_and_a_secret_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--xds-tls-secret", "x", "--xds-tls-directory", "/tls", kubernetes=True)
    assert "not allowed with" in capsys.readouterr().err


def test_who_can_reach_an_open_entrance_is_told() -> None:
    assert list_notices(make("127.0.0.1")) == ()
    assert list_notices(make("::1")) == ()
    assert [text.partition(":")[0] for text in list_notices(make("0.0.0.0"))] == [
        "Anyone who reaches the entrance may use the nodes",
        "The entrance is plain HTTP, which can be read on the way",
    ]
    assert len(list_notices(make("0.0.0.0", keys="callers"))) == 1
    assert list_notices(make("0.0.0.0", keys="callers", entrance="front")) == ()


def test_a_certificate_that_expires_soon_is_told_and_its_day_is_a_number() -> None:
    entries = side(server(authority(), days=30))
    doors = Doors(read_material(entries, trusts=False))
    assert doors.certificate is not None
    end = doors.certificate.until.timestamp()
    settings = make("127.0.0.1", entrance="front")
    for before, said in ((8, None), (6, "The certificate of the entrance expires at"), (-1, "has expired at")):
        remarks = remark(settings, None, doors, end - before * 86400)
        assert [(c.name, c.until) for c in remarks.certificates] == [("entrance", end)]
        assert (said is None and not remarks.notices) or said in remarks.notices[0]
    assert [c.name for c in remark(settings, doors.certificate, Doors(), end).certificates] == ["xds"]


def test_the_entrance_is_as_the_flags_say() -> None:
    settings = make("::1", entrance="front")
    assert print_url(settings) == "https://[::1]:8080"
    entrance = describe_entrance(settings, None)
    assert (entrance.tls, entrance.keys) == (True, False)
