"""A gateway whose objects are on a real API server: operators as processes, Envoys beside them, simulated nodes."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from support.apiserver import ApiServer, locate
from support.envoy import RealEnvoy, free_port
from support.scene import COMMAND, Process, wait_for
from weighbridge_operator.xds.bootstrap import BootstrapSettings, bootstrap
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

MODEL = "m"


def own_address() -> str:
    """An address of this machine that is not loopback: that one may not be an endpoint. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        found: str = probe.getsockname()[0]
    return found


class Installed:
    """`async with Installed(server, namespace) as gateway:`; at first nothing runs but the simulated nodes."""

    def __init__(self, server: ApiServer, namespace: str, *names: str) -> None:
        self.server, self.namespace = server, namespace
        self._names = names
        self._running = AsyncExitStack()
        self.address = own_address()
        self.port = free_port()
        self.operators: dict[str, Process] = {}
        self._ports: dict[str, tuple[int, int]] = {}
        self.envoys: dict[str, tuple[RealEnvoy, int]] = {}

    async def __aenter__(self) -> Installed:
        self.folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="installed-")))
        specs = [NodeSpec(name=name, host=self.address, models=((MODEL, MODEL),), zero=True) for name in self._names]
        self.fleet = await self._running.enter_async_context(Fleet(specs))
        self.http = await self._running.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    async def start_operator(self, name: str = "operator-0", *flags: str, kubeconfig: Path | None = None) -> int:
        """The process `weighbridge operator --kubernetes`, on the same ports again; the one of its xDS."""
        xds, admin = self._ports.setdefault(name, (free_port(), free_port()))
        command = ["operator", "--kubernetes", "--namespace", self.namespace, "--output", "plain", *flags]
        command += ["--xds", f"127.0.0.1:{xds}", "--admin", f"127.0.0.1:{admin}", "--port", str(self.port)]
        environment = {"KUBECONFIG": str(kubeconfig or self.server.kubeconfig), "POD_NAME": name}
        process = Process(
            "env",
            *(f"{key}={value}" for key, value in environment.items()),
            *(sys.executable, "-c", COMMAND, *command),
            log=self.folder / f"{name}.log",
        )
        await process.start()
        self._running.push_async_callback(process.kill)
        self.operators[name] = process
        return xds

    def find_admin(self, operator: str) -> int:
        """The port of its admin interface."""
        return self._ports[operator][1]

    async def start_envoy(self, name: str, xds: int) -> RealEnvoy:
        """An Envoy as a pod of this name, with its own address for statistics."""
        admin, stats = free_port(), free_port()
        settings = BootstrapSettings(
            operator=f"127.0.0.1:{xds}",
            gateway="weighbridge",
            id=name,
            admin_port=admin,
            stats=f"{self.address}:{stats}",
        )
        envoy = RealEnvoy(bootstrap(settings), admin_port=admin)
        await self._running.enter_async_context(envoy)
        self.envoys[name] = (envoy, stats)
        return envoy

    def apply(self, kind: str, name: str, **fields: Any) -> dict[str, Any]:
        """Applies an object of the namespace; what was applied."""
        versions = {"Service": "v1", "Secret": "v1", "EndpointSlice": "discovery.k8s.io/v1"}
        labels = fields.pop("labels", {})
        document = {
            "apiVersion": versions.get(kind, "weighbridge.dev/v1alpha1"),
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            **fields,
        }
        self.server.apply(document)
        return document

    def apply_service(self, name: str, port: int, port_name: str = "") -> None:
        named = {"name": port_name} if port_name else {}
        self.apply("Service", name, spec={"clusterIP": "None", "ports": [{"port": port, **named}]})

    def apply_slice(self, service: str, pod: str, port: int, port_name: str = "", **conditions: bool) -> None:
        """One pod behind a Service, in a slice of its own."""
        given = {"ready": True, "serving": True, "terminating": False} | conditions
        target = {"kind": "Pod", "name": pod, "namespace": self.namespace}
        self.apply(
            "EndpointSlice",
            f"{service}-{pod}",
            labels={"kubernetes.io/service-name": service},
            addressType="IPv4",
            ports=[{"name": port_name, "port": port, "protocol": "TCP"}],
            endpoints=[{"addresses": [self.address], "conditions": given, "targetRef": target}],
        )

    def delete(self, document: dict[str, Any]) -> None:
        self.server.request("DELETE", locate(document))

    async def ask(self, **headers: str) -> tuple[int, str]:
        """Status and node of one request."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        try:
            async with self.http.post(url, json=body, headers=headers) as answer:
                await answer.read()
                return answer.status, answer.headers.get("x-weighbridge-node", "")
        except aiohttp.ClientError:
            return 0, ""

    async def ask_until(self, nodes: set[str], limit: float = 60.0) -> None:
        """Waits until exactly these nodes answer."""

        async def served() -> bool:
            answers = [await self.ask() for _ in range(12 * len(nodes) or 1)]
            return {status for status, _ in answers} == {200} and {node for _, node in answers} == nodes

        await wait_for(served, limit)

    async def report(self, operator: str = "operator-0") -> dict[str, Any]:
        """What `weighbridge status --output json` shows; {} where nobody answers."""
        with suppress(aiohttp.ClientError, json.JSONDecodeError):
            async with self.http.get(f"http://127.0.0.1:{self._ports[operator][1]}/status") as answer:
                said: dict[str, Any] = await answer.json()
                return said
        return {}

    def log(self, operator: str = "operator-0") -> str:
        return (self.folder / f"{operator}.log").read_text(errors="replace")


def condition(report: dict[str, Any], name: str, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of an object's condition."""
    for found in report.get("objects", ()):
        if found["name"] == name:
            for each in found["conditions"]:
                if each["type"] == kind:
                    return each["status"], each["reason"], each["message"]
    return "", "", ""
