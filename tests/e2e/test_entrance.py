"""HTTPS and keys turned on by an upgrade before their Secrets are there: nobody comes in without a key then."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from support.clients import MODEL
from support.cluster import RELEASE, Cluster, wait_until
from support.mounted import authority, server, side
from support.release import install

pytestmark = pytest.mark.e2e
KEY = "sk-of-somebody"
STATUS = ("exec", f"deploy/{RELEASE}-operator", "--", "/opt/weighbridge/bin/weighbridge", "status")


@pytest.fixture
def turned_on(cluster: Cluster, gateway: str) -> Iterator[str]:
    """The entrance's URL, while its Secrets are not there."""
    install(cluster, "--set=entrance.tlsSecret=entrance,entrance.keysSecret=callers")
    yield gateway
    cluster.kubectl("delete", "secret", "entrance", "callers", "--ignore-not-found")
    install(cluster)


def ask(url: str, key: str | None = None) -> tuple[int, str | None]:
    """Over a connection of its own: the status, and the error's code; (0, None) where nobody answers so."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20, context=ssl._create_unverified_context()) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"].get("code")
    except (OSError, http.client.HTTPException):
        return 0, None


def all_answer(url: str, wanted: tuple[int, str | None], key: str | None = None) -> bool:
    """Whether this is what every Envoy says: a new connection comes to any of them."""
    return all(ask(url, key) == wanted for _ in range(8))


def test_nobody_comes_in_without_a_key(cluster: Cluster, turned_on: str) -> None:
    wait_until(lambda: all_answer(turned_on, (401, "invalid_api_key")), "callers without a key are refused", 30)
    assert "Secret weighbridge/entrance (--entrance-tls-secret): there is no such Secret" in cluster.kubectl(*STATUS)
    ours = authority()
    entries = {name: value.decode() for name, value in side(server(ours), ours).items()}
    secret = {"apiVersion": "v1", "kind": "Secret"}
    cluster.apply(
        secret | {"metadata": {"name": "callers"}, "stringData": {"somebody": KEY}},
        secret
        | {"metadata": {"name": "entrance"}, "type": "kubernetes.io/tls"}
        | {"stringData": {name: entries[name] for name in ("tls.crt", "tls.key")}},
    )
    over_https = turned_on.replace("http://", "https://")
    wait_until(lambda: all_answer(over_https, (200, None), KEY), "the entrance opens with its certificate", 60)
    assert all_answer(over_https, (401, "missing_api_key"))
    assert all_answer(turned_on, (0, None))
