"""A real etcd and kube-apiserver on free loopback ports, with the CRDs in it; no root, no controllers, nothing left.

The server can be killed and started again on the same ports and data, which is how "the API server is away" is tested.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from support.authority import Authority, Pair
from support.envoy import free_port
from weighbridge_operator import tether

START_LIMIT = 90.0  # seconds; a busy machine
CRDS = Path(__file__).parents[2] / "crds"
MANAGER = "tests"
_APPLY = "application/apply-patch+yaml"


class ApiServer:
    """`with ApiServer(assets) as server:` serves until the block ends. With `audit` it notes who asked for what."""

    def __init__(self, assets: Path, *, audit: bool = False) -> None:
        self._assets, self._audit = assets, audit
        self._folder = tempfile.TemporaryDirectory(prefix="apiserver-")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._store, self._peer, self.port = free_port(), free_port(), free_port()
        self._names = itertools.count(1)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """Of a member of system:masters."""
        return self._path / "kubeconfig"

    @property
    def pid(self) -> int:
        """Of the kube-apiserver."""
        return self._processes["kube-apiserver"].pid

    def __enter__(self) -> ApiServer:
        try:
            self._authority = Authority(self._path)
            self._served = self._authority.sign("apiserver", addresses=("127.0.0.1",))
            self._accounts = self._authority.sign("accounts")
            self.write_kubeconfig(self.kubeconfig, "admin", "system:masters")
            self.api = self.connect()
            self._run("etcd", *self._list_etcd_flags())
            self.start()
            self._install_crds()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in ("kube-apiserver", "etcd"):
            self._end(program)
        self._folder.cleanup()

    def kill(self) -> None:
        """Ends the kube-apiserver without a goodbye; etcd and its data stay."""
        self._end("kube-apiserver")

    def start(self) -> None:
        """Starts the kube-apiserver and waits until it is ready."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Starts the kube-apiserver, which ends with the thread that calls this."""
        self._run("kube-apiserver", *self._list_server_flags())

    def wait_ready(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_LIMIT
        while not self._is_ready():
            if self._processes["kube-apiserver"].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"kube-apiserver did not start:\n{self.read_log('kube-apiserver')[-4000:]}")
            time.sleep(0.05)

    def read_log(self, program: str) -> str:
        """What the program printed."""
        return (self._path / f"{program}.log").read_text(errors="replace")

    def read_audit(self, user: str) -> list[dict[str, Any]]:
        """What the user has asked for, in Kubernetes' audit events."""
        lines = (self._path / "audit.log").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line))["user"]["username"] == user]

    def connect(self, kubeconfig: Path | None = None) -> client.ApiClient:
        """A client with the rights that the kubeconfig (default: the admin's) gives."""
        configuration = client.Configuration()
        configuration.retries = False
        config.load_kube_config(str(kubeconfig or self.kubeconfig), client_configuration=configuration)
        return client.ApiClient(configuration)

    def write_kubeconfig(self, path: Path, user: str, group: str | None = None) -> None:
        """A kubeconfig of this user; without RBAC rules it may do nothing."""
        pair: Pair = self._authority.sign(user, group=group)
        cluster = {"server": self.url, "certificate-authority": str(self._authority.certificate)}
        credentials = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        said = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(said))

    def create_namespace(self) -> str:
        """A namespace that no test had before. There is no controller that would empty it: a fresh one each time."""
        name = f"test-{os.getpid()}-{next(self._names)}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def apply(self, document: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Server-side apply of one object. Raises ApiException."""
        query = [("fieldManager", MANAGER), ("force", "true"), ("fieldValidation", "Strict")]
        query += [("dryRun", "All")] if dry_run else []
        return self.request("PATCH", locate(document), document, query=query, content=_APPLY)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        """One call with JSON in and out. Raises ApiException."""
        return call(self.api, method, path, body, query=query, content=content)

    @property
    def _path(self) -> Path:
        return Path(self._folder.name)

    def _install_crds(self) -> None:
        for path in sorted(CRDS.glob("*.yaml")):
            self.apply(yaml.safe_load(path.read_text()))
        deadline = time.monotonic() + START_LIMIT
        for path in sorted(CRDS.glob("*.yaml")):
            plural = path.stem.partition("_")[2]
            while not self._is_served(f"/apis/weighbridge.dev/v1alpha1/{plural}"):
                assert time.monotonic() < deadline, f"{plural} is not served"
                time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            call(self.api, "GET", "/readyz")
        except (ApiException, HTTPError):
            return False
        return True

    def _is_served(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except ApiException:
            return False
        return True

    def _run(self, program: str, *flags: str) -> None:
        # The kernel ends it with us, however we end.
        command = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(self._assets / program), *flags]
        with (self._path / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._path)

    def _end(self, program: str) -> None:
        process = self._processes.pop(program, None)
        if process is not None:
            process.kill()
            process.wait()

    def _list_etcd_flags(self) -> tuple[str, ...]:
        clients, peers = f"http://127.0.0.1:{self._store}", f"http://127.0.0.1:{self._peer}"
        return (
            f"--data-dir={self._path / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _list_server_flags(self) -> tuple[str, ...]:
        return (
            f"--etcd-servers=http://127.0.0.1:{self._store}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self._served.certificate}",
            f"--tls-private-key-file={self._served.key}",
            f"--client-ca-file={self._authority.certificate}",
            "--authorization-mode=RBAC",
            # No controller makes service accounts here.
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._accounts.certificate}",
            f"--service-account-signing-key-file={self._accounts.key}",
            "--service-cluster-ip-range=10.96.0.0/24",
            # It listens on loopback, which may not be an endpoint.
            "--endpoint-reconciler-type=none",
            *self._list_audit_flags(),
        )

    def _list_audit_flags(self) -> tuple[str, ...]:
        if not self._audit:
            return ()
        policy = self._path / "audit.yaml"
        said = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
        policy.write_text(json.dumps(said))
        return (
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self._path / 'audit.log'}",
            "--audit-log-mode=blocking",
        )


def call(
    api: client.ApiClient,
    method: str,
    path: str,
    body: object = None,
    *,
    query: list[tuple[str, str]] | None = None,
    content: str = "application/json",
    accept: str = "application/json",
) -> dict[str, Any]:
    """One call with JSON in and out, as this client's user. Raises ApiException."""
    headers = {"Content-Type": content, "Accept": accept}
    request = api.param_serialize(method, path, query_params=query or [], header_params=headers)
    text = None if body is None else json.dumps(body)
    sent = (*request[:3], text if content == _APPLY else body)
    answer = api.call_api(*sent, _request_timeout=10)
    said = answer.read().decode()
    if answer.status >= 400:
        raise ApiException(http_resp=answer, body=said, status=answer.status)
    read: dict[str, Any] = json.loads(said) if said.startswith("{") else {}
    return read


def locate(document: dict[str, Any]) -> str:
    """The URL path of an object."""
    version, kind, metadata = document["apiVersion"], document["kind"].lower(), document["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"{root}{inside}/{plural}/{metadata['name']}"
