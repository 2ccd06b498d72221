"""All that keeps strangers out, in a cluster: the commands, a real API server, the real Envoy, OpenAI's client."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from kubernetes.client.exceptions import ApiException

from support.apiserver import ApiServer
from support.envoy import RealEnvoy, free_port
from support.mounted import Mounted, authority, server, side
from support.scene import COMMAND, Process, wait_for
from weighbridge_operator.bootstrap_command import main
from weighbridge_operator.trust.minting import Pair

pytestmark = pytest.mark.envoy
OURS = authority()
ALICE, BOB = "sk-alice-8Hq2Zt", "sk-bob-41=/+~x"


class Gateway:
    """An operator in a cluster, and one Envoy whose pod has the Envoys' Secret mounted."""

    def __init__(self, api: ApiServer, namespace: str, folder: Path) -> None:
        self._api, self.namespace, self._folder = api, namespace, folder
        self.port, self.xds, self.admin = free_port(), free_port(), free_port()
        self.mounted = Mounted(folder / "tls")
        kubeconfig = folder / "kubeconfig"
        api.write_kubeconfig(kubeconfig, "admin", "system:masters")
        (folder / "ca.pem").write_bytes(OURS.certificate_pem)
        # A process of its own, as in a pod.
        flags = ("--kubernetes", "--namespace", namespace, "--host", "0.0.0.0", "--port", str(self.port))
        flags += ("--xds", f"127.0.0.1:{self.xds}", "--admin", f"127.0.0.1:{self.admin}", "--output", "plain")
        flags += ("--xds-tls-secret", "xds", "--xds-service", "operator")
        flags += ("--entrance-tls-secret", "front", "--keys-secret", "callers")
        environment = ("env", f"KUBECONFIG={kubeconfig}", "POD_NAME=operator-0")
        program = (*environment, sys.executable, "-c", COMMAND, "operator", *flags)
        self.operator = Process(*program, log=folder / "operator.log")

    def secret(self, name: str, **entries: str) -> None:
        data = {entry.replace("_", "."): base64.b64encode(value.encode()).decode() for entry, value in entries.items()}
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        try:
            self._api.request("PUT", f"{path}/{name}", body)
        except ApiException:
            self._api.request("POST", path, body)

    def front(self, pair: Pair) -> None:
        entries = side(pair, OURS)
        self.secret("front", tls_crt=entries["tls.crt"].decode(), tls_key=entries["tls.key"].decode())

    async def mount(self) -> None:
        """As kubelet does once there is something to mount."""

        async def is_mounted() -> bool:
            with suppress(ApiException):
                path = f"/api/v1/namespaces/{self.namespace}/secrets/xds-client"
                found = await asyncio.to_thread(self._api.request, "GET", path)
                self.mounted.put({entry: base64.b64decode(value) for entry, value in found["data"].items()})
                return True
            return False

        await wait_for(is_mounted)

    @property
    def log(self) -> str:
        return (self._folder / "operator.log").read_text()

    async def says(self, text: str) -> bool:
        return text in self.log

    def make_envoy(self) -> RealEnvoy:
        admin, config = free_port(), self._folder / "envoy.json"
        # The operator's certificate has its Service's name, which only a cluster resolves.
        flags = [
            "--operator",
            f"operator.{self.namespace}.svc:{self.xds}",
            "--tls-directory",
            str(self.mounted.directory),
        ]
        assert main([*flags, "--id", "edge", "--admin-port", str(admin), "--write", str(config)]) == 0
        told = json.loads(config.read_text())
        told["static_resources"]["clusters"][0]["type"] = "STATIC"
        endpoint = told["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
        endpoint["endpoint"]["address"]["socket_address"]["address"] = "127.0.0.1"
        return RealEnvoy(told, admin_port=admin)

    def ask(self, key: str) -> openai.AsyncOpenAI:
        context = ssl.create_default_context(cafile=str(self._folder / "ca.pem"))
        http = openai.DefaultAsyncHttpxClient(verify=context)
        url = f"https://localhost:{self.port}/v1"
        return openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, http_client=http)

    async def lists(self, key: str) -> str:
        """What becomes of a request for the list of models."""
        try:
            async with self.ask(key) as client:
                return " ".join([model.id async for model in await client.models.list()])
        except openai.AuthenticationError:
            return "refused"
        except openai.APIConnectionError:
            return "shut"

    async def until(self, key: str, wanted: str) -> None:
        async def comes() -> bool:
            return await self.lists(key) == wanted

        await wait_for(comes)


@pytest.fixture
async def gateway(api_server: ApiServer, namespace: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    made = Gateway(api_server, namespace, tmp_path)
    api_server.apply(
        {
            "apiVersion": "weighbridge.dev/v1alpha1",
            "kind": "ModelNode",
            "metadata": {"name": "a", "namespace": namespace},
            "spec": {"engine": "openai", "address": {"host": "192.0.2.1", "port": 80}, "models": [{"name": "m"}]},
        }
    )
    yield made
    await made.operator.kill()


async def test_from_an_empty_namespace_to_a_caller_with_a_key_over_https(gateway: Gateway) -> None:
    await gateway.operator.start()
    await gateway.mount()
    async with gateway.make_envoy() as envoy:

        async def connected() -> bool:
            return await envoy.stat("control_plane.connected_state") == 1

        await wait_for(connected)
        assert await gateway.lists(ALICE) == "shut"
        gateway.front(server(OURS))
        await gateway.until(ALICE, "refused")
        gateway.secret("callers", alice=ALICE, bob=BOB)
        await gateway.until(ALICE, "m")
        assert await gateway.lists(BOB) == "m"
        gateway.secret("callers", bob=BOB, carol="")
        await gateway.until(ALICE, "refused")
        assert await gateway.lists(BOB) == "m"
        dump = await envoy.admin("/config_dump")
        await wait_for(lambda: gateway.says("entry carol is empty; it lets nobody in"))
        log = gateway.log
        for secret in (ALICE, BOB, "PRIVATE KEY"):
            assert secret not in dump
            assert secret not in log
