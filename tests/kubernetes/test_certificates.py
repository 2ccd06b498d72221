"""The operator's own certificates in a real API server: one for all replicas, renewed in time, nobody else's Secret."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from kubernetes.client.exceptions import ApiException

from support.apiserver import ApiServer
from support.mounted import NOW
from weighbridge_api.wire import PEER_IDENTITY
from weighbridge_operator.cluster_api import ApiFault, ClusterApi
from weighbridge_operator.latest import Latest
from weighbridge_operator.permissions import CERTIFICATES
from weighbridge_operator.trust.material import Material, MaterialError, read_certificates
from weighbridge_operator.trust.minting import CLIENT, SERVER
from weighbridge_operator.trust.rotation import OVERLAP, envoy_identity, names_of, server_names
from weighbridge_operator.trust.secret import OWNER, SecretKeeper, SecretNames, follow_secret

IDENTITY = envoy_identity("weighbridge")


def names(namespace: str) -> SecretNames:
    return SecretNames(namespace, "xds", server_names("operator", namespace), IDENTITY, PEER_IDENTITY)


@pytest.fixture
def keeper(api_server: ApiServer, namespace: str) -> Callable[..., SecretKeeper]:
    """A replica: `keeper(days)` lives so many days from now."""

    def make(days: float = 0, kubeconfig: Path | None = None) -> SecretKeeper:
        at = NOW + timedelta(days=days)
        where = str(kubeconfig or api_server.kubeconfig)
        return SecretKeeper(names(namespace), lambda: ClusterApi.connect(where), at.timestamp)

    return make


def read(api_server: ApiServer, namespace: str, name: str) -> dict[str, bytes]:
    found = api_server.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
    return {entry: base64.b64decode(value) for entry, value in found["data"].items()}


def make_secret(namespace: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, **fields}


def test_replicas_that_start_at_once_all_serve_with_the_same(
    api_server: ApiServer, namespace: str, keeper: Callable[..., SecretKeeper]
) -> None:
    start = threading.Barrier(8)

    def replica(_: int) -> Material:
        own = keeper()
        start.wait()
        return own.settle()

    with ThreadPoolExecutor(8) as replicas:
        found = list(replicas.map(replica, range(8)))
    assert len(set(found)) == 1
    own, client = read(api_server, namespace, "xds"), read(api_server, namespace, "xds-client")
    assert found[0].certificate == own["tls.crt"]
    assert set(client) == {"ca.crt", "tls.crt", "tls.key"}, "Envoys get no key that signs"
    assert client["ca.crt"] == own["ca.crt"]
    assert names_of(read_certificates(client["tls.crt"], "")[0])[1] == {IDENTITY}
    assert names_of(read_certificates(own["tls.crt"], "")[0])[0] == server_names("operator", namespace)


def test_replicas_that_renew_at_once_agree_at_every_step(
    api_server: ApiServer, namespace: str, keeper: Callable[..., SecretKeeper]
) -> None:
    before = keeper().settle()
    for days, authorities in ((61.0, 1), (500.0, 2), (500.0 + OVERLAP.days, 2), (800.0, 1)):
        with ThreadPoolExecutor(4) as replicas:
            found = list(replicas.map(lambda _, days=days: keeper(days).settle(), range(4)))
        assert len(set(found)) == 1
        assert found[0] != before
        assert len(read_certificates(found[0].authorities, "")) == authorities
        assert read(api_server, namespace, "xds-client")["ca.crt"] == found[0].authorities
        before = found[0]
    assert keeper(800).settle() == before


def test_data_planes_have_a_certificate_of_their_own_that_follows_the_authorities(
    api_server: ApiServer, namespace: str, keeper: Callable[..., SecretKeeper]
) -> None:
    before: dict[str, bytes] = {}
    for days in (0.0, 61.0, 500.0, 500.0 + OVERLAP.days):
        with ThreadPoolExecutor(4) as replicas:
            list(replicas.map(lambda _, days=days: _settle_all(keeper(days)), range(4)))
        own, peers = read(api_server, namespace, "xds"), read(api_server, namespace, "xds-peers")
        assert set(peers) == {"ca.crt", "tls.crt", "tls.key"}, "data planes get no key that signs"
        assert peers["ca.crt"] == own["ca.crt"]
        assert peers != before
        leaf = read_certificates(peers["tls.crt"], "")[0]
        assert names_of(leaf) == (frozenset(), {PEER_IDENTITY})
        assert set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {*SERVER, *CLIENT}
        before = peers


def _settle_all(keeper: SecretKeeper) -> None:
    keeper.settle()
    keeper.settle_peers()


async def test_what_is_wrong_with_data_planes_certificate_holds_no_envoy_up(
    api_server: ApiServer, namespace: str, keeper: Callable[..., SecretKeeper], caplog: pytest.LogCaptureFixture
) -> None:
    api_server.apply(make_secret(namespace, "xds-peers", stringData={"password": "x"}))
    material: Latest[Material] = Latest()
    following = asyncio.create_task(follow_secret(keeper(), material, poll=0.05))
    await asyncio.wait_for(material.wait_newer(), 20)
    async with asyncio.timeout(20):
        while not (said := [r.message for r in caplog.records if "data planes" in r.message]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    following.cancel()
    assert len(said) == 1
    assert "is not the operator's" in said[0]
    assert read(api_server, namespace, "xds-peers") == {"password": b"x"}


def test_what_somebody_broke_is_made_anew_and_what_he_labelled_stays(
    api_server: ApiServer, namespace: str, keeper: Callable[..., SecretKeeper]
) -> None:
    first = keeper().settle()
    path = f"/api/v1/namespaces/{namespace}/secrets/xds"
    found = api_server.request("GET", path)
    found["metadata"]["labels"]["team"] = "platform"
    found["data"]["tls.key"] = base64.b64encode(b"junk").decode()
    api_server.request("PUT", path, found)
    second = keeper().settle()
    assert second.authorities == first.authorities
    assert second.certificate != first.certificate
    assert api_server.request("GET", path)["metadata"]["labels"] == {"team": "platform", OWNER[0]: OWNER[1]}
    api_server.request("DELETE", path)
    assert keeper().settle().authorities != first.authorities


def test_a_secret_that_is_somebody_elses_is_left_alone(
    api_server: ApiServer, namespace: str, keeper: Callable[..., SecretKeeper]
) -> None:
    api_server.apply(make_secret(namespace, "xds", stringData={"password": "x"}))
    with pytest.raises(MaterialError, match=r"is not the operator's .* choose another name"):
        keeper().settle()
    assert read(api_server, namespace, "xds") == {"password": b"x"}
    with pytest.raises(ApiException):
        read(api_server, namespace, "xds-client")


def test_the_rights_that_are_asked_for_are_enough_and_reach_no_other_secret(
    api_server: ApiServer, namespace: str, keeper: Callable[..., SecretKeeper], tmp_path: Path
) -> None:
    rules = [
        {"apiGroups": [p.group], "resources": [p.resource], "verbs": list(p.verbs)}
        | ({"resourceNames": ["xds", "xds-client", "xds-peers"]} if p.named else {})
        for p in CERTIFICATES
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}
    api_server.apply(role | {"metadata": {"name": "xds", "namespace": namespace}})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "xds"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": namespace}
    binding = {"apiVersion": role["apiVersion"], "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    api_server.apply(binding | {"metadata": {"name": "xds", "namespace": namespace}})
    kubeconfig = tmp_path / "kubeconfig"
    api_server.write_kubeconfig(kubeconfig, namespace)
    keeper(0, kubeconfig).settle()
    keeper(0, kubeconfig).settle_peers()
    first = keeper(0, kubeconfig).settle()
    assert keeper(61, kubeconfig).settle() != first
    api_server.apply(make_secret(namespace, "other", stringData={"password": "x"}))
    restricted = ClusterApi.connect(str(kubeconfig))
    for method, path in (("GET", "/other"), ("GET", ""), ("DELETE", "/xds")):
        with pytest.raises(ApiFault) as refused:
            restricted.call(method, f"/api/v1/namespaces/{namespace}/secrets{path}")
        assert refused.value.status == 403


async def test_it_waits_for_an_api_server_that_is_away_and_says_so_once(
    keeper: Callable[..., SecretKeeper], caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = keeper(), 0

    def connect() -> ClusterApi:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ApiFault(0, "nobody answers")
        return real._connect()

    material: Latest[Material] = Latest()
    away = SecretKeeper(real._names, connect, NOW.timestamp)
    following = asyncio.create_task(follow_secret(away, material, retry=0.01))
    await asyncio.wait_for(material.wait_newer(), 20)
    following.cancel()
    assert [record.message for record in caplog.records if "nobody answers" in record.message] == [
        "xDS certificates: nobody answers"
    ]
    assert calls == 4
