"""What --prometheus and its flags take, and the sentence for what they don't."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from weighbridge_operator.prometheus_flags import add_prometheus, read_prometheus
from weighbridge_operator.settings import PrometheusSettings


def read(*flags: str) -> PrometheusSettings | None:
    parser = argparse.ArgumentParser()
    add_prometheus(parser)
    return read_prometheus(parser.parse_args(flags))


def test_replicas_paths_and_files_are_taken(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    assert read() is None
    urls = ("--prometheus", "http://a:9090/", "--prometheus", "https://b/mimir/prometheus")
    found = read(*urls, "--prometheus-token-file", str(token), "--prometheus-interval", "2500ms")
    assert found == PrometheusSettings(("http://a:9090", "https://b/mimir/prometheus"), 2.5, token_file=token)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--prometheus-interval", "5s"), "--prometheus-interval needs --prometheus URL"),
        (("--prometheus", "a:9090"), "--prometheus a:9090: write http:// or https://"),
        (("--prometheus", "http://a:0"), "write http:// or https://"),
        (("--prometheus", "http://a:99999"), "--prometheus: the URL is malformed"),
        (("--prometheus", "http://a/?tenant=x"), "write http:// or https://"),
        (("--prometheus", "http://u:hunter2@a"), "leave user and password out of the URL"),
        (("--prometheus", "http://a", "--prometheus-interval", "5"), "--prometheus-interval 5: write a duration"),
        (("--prometheus", "http://a", "--prometheus-interval", "0s"), "--prometheus-interval 0s: from 1s to 60s"),
        (("--prometheus", "http://a", "--prometheus-user", "u"), "belong together"),
        (("--prometheus", "http://a", "--prometheus-token-file", "/no/such"), "there is no file /no/such"),
        (("--prometheus", "http://a") * 9, "at most 8 replicas, not 9"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused_with_the_remedy(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        read(*flags)
    assert words in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_two_ways_to_be_let_in_are_one_too_many(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    with pytest.raises(ValueError, match="two ways to be let in"):
        read(
            *("--prometheus", "http://a", "--prometheus-token-file", str(secret)),
            *("--prometheus-user", "u", "--prometheus-password-file", str(secret)),
        )
