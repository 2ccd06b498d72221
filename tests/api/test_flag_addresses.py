"""Addresses that flags take, as Kubernetes writes them too."""

from __future__ import annotations

import argparse

import pytest

from weighbridge_api import flags


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9902", "127.0.0.1", 9902),
        ("[::1]:9902", "::1", 9902),
        ("fd00:10::12:9940", "fd00:10::12", 9940),  # $(POD_IP):9940
        ("fd00:1:2:3:4:5:6:7:9940", "fd00:1:2:3:4:5:6:7", 9940),
    ],
)
def test_an_address_to_listen_on(text: str, host: str, port: int) -> None:
    assert flags.address(text) == (host, port)


@pytest.mark.parametrize("text", ["127.0.0.1", "host:1", "x::1:1", "1.2.3.4:99999", "1:2", ""])
def test_what_is_none_is_told_with_an_example(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no address like 127\.0\.0\.1:9902"):
        flags.address(text)


def test_whom_to_tell_may_be_a_name() -> None:
    assert flags.target("peers.example:9940") == ("peers.example", 9940)
    assert flags.target("[::1]:9940") == ("::1", 9940)
