"""Where the operator lets itself be sent by an Envoy's word, and where not."""

from __future__ import annotations

import pytest

from weighbridge_operator.xds.origins import refuse_origin

FAR = "ipv4:203.0.113.7:4711"
HERE = "ipv4:127.0.0.1:4711"


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("http://203.0.113.7:9901", FAR),
        ("http://203.0.113.7:1", FAR),
        ("http://127.0.0.1:9901", HERE),
        ("http://[::1]:9901", "ipv6:%5B::1%5D:4711"),
        ("http://203.0.113.7:9901", "ipv6:%5B::ffff:203.0.113.7%5D:4711"),
    ],
)
def test_its_own_address_is_asked(url: str, peer: str) -> None:
    assert refuse_origin(url, peer, proven=False) is None
    assert refuse_origin(url, peer, proven=True) is None


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("http://169.254.169.254:80", FAR),
        ("http://127.0.0.1:8081", FAR),
        ("http://[::1]:8081", FAR),
        ("http://0.0.0.0:80", FAR),
        ("http://10.96.0.1:443", FAR),
        ("http://[::ffff:127.0.0.1]:8081", FAR),
    ],
)
def test_where_no_envoy_can_be_nobody_is_asked(url: str, peer: str) -> None:
    for proven in (False, True):
        assert refuse_origin(url, peer, proven=proven, refused={"10.96.0.1"}) is not None


def test_an_address_of_somebody_elses_is_asked_only_on_the_word_of_who_proved_itself() -> None:
    why = refuse_origin("http://203.0.113.8:9901", FAR, proven=False)
    assert why is not None
    assert "203.0.113.8" in why
    assert "203.0.113.7" in why
    assert "--xds-tls-directory" in why
    assert refuse_origin("http://203.0.113.8:9901", FAR, proven=True) is None
    assert refuse_origin("http://203.0.113.8:9901", "unix:/run/xds", proven=False) is not None
    # Or where the cluster says that one of ours is.
    assert refuse_origin("http://203.0.113.8:9901", FAR, proven=False, listed=["http://203.0.113.8:9901"]) is None
    assert refuse_origin("http://203.0.113.8:99", FAR, proven=False, listed=["http://203.0.113.8:9901"]) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9901",
        "http://metadata.internal:80",
        "https://203.0.113.7:9901",
        "http://203.0.113.7",
        "http://203.0.113.7:9901/quitquitquit?",
        "http://a@203.0.113.7:9901",
        "http://203.0.113.7:99999",
        "file:///etc/passwd",
        "http://[::1",
        "",
    ],
)
def test_anything_but_an_address_and_a_port_is_refused(url: str) -> None:
    for peer in (FAR, HERE):
        assert "not http://ADDRESS:PORT" in (refuse_origin(url, peer, proven=True) or "")
