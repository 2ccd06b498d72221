"""The flags that say which Prometheus is asked for load, and how it lets the gateway in."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from weighbridge_api.values import parse_duration
from weighbridge_operator.settings import PrometheusSettings

LEAST, DEFAULT, MOST = 1.0, 5.0, 60.0  # seconds between two rounds of queries
REPLICAS = 8


def add_prometheus(parser: argparse.ArgumentParser) -> None:
    """Flags of `up` and `operator`."""
    add = parser.add_argument_group("Prometheus as a source of load").add_argument
    add(
        "--prometheus",
        dest="prometheus",
        metavar="URL",
        action="append",
        default=[],
        help="where it answers, as http://prometheus.monitoring:9090; given again for each of its replicas",
    )
    add("--prometheus-interval", metavar="DURATION", help="time between two rounds of queries (default: 5s)")
    add(
        "--prometheus-token-file", type=Path, metavar="PATH", help="file with a bearer token; read anew when it changes"
    )
    add("--prometheus-user", metavar="NAME", help="for basic authentication, with --prometheus-password-file")
    add("--prometheus-password-file", type=Path, metavar="PATH", help="file with the user's password")
    add("--prometheus-ca-file", type=Path, metavar="PATH", help="authorities to trust instead of the system's, in PEM")


def read_prometheus(options: argparse.Namespace) -> PrometheusSettings | None:
    """None where no Prometheus is asked. Raises ValueError with a remedy, OSError where a file is not there."""
    given = {name: getattr(options, f"prometheus_{name}", None) for name in _BESIDE}
    urls = tuple(getattr(options, "prometheus", ()))
    if not urls:
        alone = next((name for name, value in given.items() if value is not None), None)
        if alone is not None:
            raise ValueError(f"--prometheus-{alone.replace('_', '-')} needs --prometheus URL")
        return None
    if find_spec("prometheus_api_client") is None:
        raise ValueError("--prometheus needs the package prometheus-api-client: install weighbridge[kubernetes]")
    if len(urls) > REPLICAS:
        raise ValueError(f"--prometheus: at most {REPLICAS} replicas, not {len(urls)}")
    if (given["user"] is None) != (given["password_file"] is None):
        raise ValueError("--prometheus-user and --prometheus-password-file belong together: give both or none")
    if given["token_file"] is not None and given["user"] is not None:
        raise ValueError("--prometheus-token-file and --prometheus-user are two ways to be let in: give one")
    for name in ("token_file", "password_file", "ca_file"):
        path = given[name]
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"--prometheus-{name.replace('_', '-')}: there is no file {path}")
    return PrometheusSettings(
        urls=tuple(_check_url(url) for url in urls),
        interval=_read_interval(given["interval"]),
        token_file=given["token_file"],
        user=given["user"],
        password_file=given["password_file"],
        ca_file=given["ca_file"],
    )


_BESIDE = ("interval", "token_file", "user", "password_file", "ca_file")


def _check_url(url: str) -> str:
    """The URL; one that holds a credential is never repeated."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("--prometheus: the URL is malformed") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("--prometheus: leave user and password out of the URL; they have flags of their own")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ValueError(f"--prometheus {url}: write http:// or https://, host, port, and a path where it has one")
    return url.rstrip("/")


def _read_interval(text: str | None) -> float:
    if text is None:
        return DEFAULT
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ValueError(f"--prometheus-interval {text}: write a duration, as 5s") from None
    if not LEAST <= seconds <= MOST:
        raise ValueError(f"--prometheus-interval {text}: from 1s to 60s")
    return seconds
