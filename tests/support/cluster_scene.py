"""A gateway in a cluster, all on 127.0.0.0/8: a real API server, two operators as processes, two Envoys.

The Envoys listen on one port and ask one address for their configuration, behind which both operators are.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from support.apiproxy import ApiProxy
from support.apiserver import ApiServer, locate
from support.balancer import Balancer
from support.envoy import RealEnvoy, free_port
from support.loopback_operator import MEANT, WRITTEN
from support.prometheus import RealPrometheus
from support.replica import Replica
from support.scene import ANSWER, COMMAND, MODEL, NAMES, Process, describe_node, wait_for
from weighbridge_operator.xds.bootstrap import BootstrapSettings, bootstrap

SERVICE = "envoys"
SIZE = 16  # of each node; a third of the load takes half of it
LIMIT = 60.0  # seconds; a busy machine
SOON = aiohttp.ClientTimeout(total=0.5)  # for one answer of a token, where nothing stands before it
Json = dict[str, Any]


class LoopbackReplica(Replica):
    """A replica that takes loopback addresses for nodes."""

    command = ("env", f"PYTHONPATH={Path(__file__).parents[1]}", sys.executable, "-m", "support.loopback_operator")


class ClusterScene:
    """`async with ClusterScene(server) as scene:` serves three nodes until the block ends.

    `specs`: what each node's spec says besides, by its name. With `prometheus` a real one scrapes them each second;
    with `proxied` the operators come to the API server through a proxy that can lie.
    """

    def __init__(
        self,
        server: ApiServer,
        *,
        specs: Mapping[str, Json] | None = None,
        prometheus: bool = False,
        proxied: bool = False,
    ) -> None:
        self.server, self._specs, self._asked, self._proxied = server, specs or {}, prometheus, proxied
        self._running = AsyncExitStack()
        self.hosts = {name: f"127.0.0.{number}" for number, name in enumerate(NAMES, 2)}
        self.ports = {name: free_port() for name in NAMES}
        self.entrance = free_port()
        self.url = f"http://127.0.0.1:{self.entrance}"
        self.replicas: list[LoopbackReplica] = []
        self.envoys: list[RealEnvoy] = []
        self._changes = 0

    async def __aenter__(self) -> ClusterScene:
        try:
            await self._start()
        except BaseException:
            await self._running.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    async def _start(self) -> None:
        self.folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="cluster-")))
        self.namespace = await asyncio.to_thread(self.server.create_namespace)
        # A connection for each request, so that every Envoy is met.
        self.http = await self._running.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        )
        if self._proxied:
            self.proxy = await self._running.enter_async_context(ApiProxy(self.server, self.folder))
        await self._start_nodes()
        stats = [free_port(), free_port()]
        await self.apply(*self.nodes(), *self._describe_envoys(stats))
        await self._start_operators()
        ports = [replica.xds for replica in self.replicas]
        self.balancer = await self._running.enter_async_context(Balancer(ports))
        for number, port in enumerate(stats):
            await self._start_envoy(number, port)
        await wait_for(self.answers, LIMIT)
        await wait_for(self.both_know_all, LIMIT)

    async def _start_nodes(self) -> None:
        told: list[str] = []
        for name in NAMES:
            place = f"name={name},host={self.hosts[name]},port={self.ports[name]}"
            told += ["--node", f"{place},model={MODEL},answer={ANSWER},size={SIZE}"]
        simulator = Process(sys.executable, "-c", COMMAND, "simulate", *told, log=self.folder / "nodes.log")
        await simulator.start()
        self._running.push_async_callback(simulator.kill)
        for name in NAMES:
            await wait_for(lambda name=name: self.is_well(f"{self._node_url(name)}/health"), LIMIT)  # type: ignore[misc]
        if self._asked:
            targets = [f"{self.hosts[name]}:{self.ports[name]}" for name in NAMES]
            job = {"job_name": "vllm", "static_configs": [{"targets": targets}]}
            self.prometheus = await self._running.enter_async_context(RealPrometheus([job], interval="1s"))
            await self.prometheus.wait_series("vllm:num_requests_running", len(NAMES))

    async def _start_operators(self) -> None:
        flags = [f"--port={self.entrance}", f"--envoys-service={SERVICE}"]
        if self._asked:
            flags += [f"--prometheus={self.prometheus.url}", "--prometheus-interval=1s"]
        kubeconfig = self.proxy.kubeconfig if self._proxied else None
        for number in range(2):
            replica = LoopbackReplica(
                self.server, self.namespace, f"operator-{number}", self.folder, *flags, kubeconfig=kubeconfig
            )
            self.replicas.append(self._running.enter_context(replica))
        for replica in self.replicas:
            await asyncio.to_thread(replica.wait_published)

    async def _start_envoy(self, number: int, stats: int) -> None:
        admin = free_port()
        settings = BootstrapSettings(
            operator=f"127.0.0.1:{self.balancer.port}",
            gateway="weighbridge",
            id=f"envoy-{number}",
            admin_port=admin,
            stats=f"{MEANT}{number + 1}:{stats}",
        )
        envoy = RealEnvoy(bootstrap(settings), admin_port=admin)
        self.envoys.append(await self._running.enter_async_context(envoy))
        await envoy.listener_port("entrance")

    def nodes(self, *models: str) -> list[Json]:
        """The three ModelNodes, which may serve further models."""
        served = [{"name": MODEL}, *({"name": name, "servedAs": MODEL} for name in models)]
        made = []
        for name in NAMES:
            address = {"host": self.hosts[name], "port": self.ports[name]}
            spec = {"address": address, "models": served} | self._specs.get(name, {})
            made.append(self.own(describe_node(name, self.ports[name], **spec)))
        return made

    def own(self, document: Json) -> Json:
        """The same in the gateway's namespace."""
        return document | {"metadata": document["metadata"] | {"namespace": self.namespace}}

    def _describe_envoys(self, stats: Sequence[int]) -> list[Json]:
        ports = [{"name": "stats", "port": 9902}]
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}}
        slices = [
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"envoy-{number}", "labels": {"kubernetes.io/service-name": SERVICE}},
                "addressType": "IPv4",
                "ports": [{"name": "stats", "port": port, "protocol": "TCP"}],
                "endpoints": [
                    {
                        "addresses": [f"{WRITTEN}{number + 1}"],
                        "conditions": {"ready": True, "serving": True, "terminating": False},
                        "targetRef": {"kind": "Pod", "name": f"envoy-{number}", "namespace": self.namespace},
                    }
                ],
            }
            for number, port in enumerate(stats)
        ]
        headless = service | {"spec": {"clusterIP": "None", "ports": ports}}
        return [self.own(document) for document in (headless, *slices)]

    async def apply(self, *documents: Json) -> None:
        for document in documents:
            await asyncio.to_thread(self.server.apply, document)

    async def change(self) -> tuple[float, float]:
        """Gives every node one more model; seconds until that is stored, and until both Envoys route to it."""
        self._changes += 1
        model = f"added-{self._changes}"
        began = time.monotonic()
        await self.apply(*self.nodes(model))
        stored = time.monotonic() - began

        async def effective() -> bool:
            return all([await self._routes(envoy, model) for envoy in self.envoys]) and await self.answers(model)

        await wait_for(effective, LIMIT)
        return round(stored, 2), round(time.monotonic() - began, 2)

    async def _routes(self, envoy: RealEnvoy, model: str) -> bool:
        return model in await envoy.admin("/config_dump?resource=dynamic_route_configs")

    async def weights(self) -> list[dict[str, int]]:
        """Each Envoy's weights by node."""
        names = {host: name for name, host in self.hosts.items()}
        found = []
        for envoy in self.envoys:
            read = json.loads(await envoy.admin("/clusters?format=json"))
            hosts = [host for cluster in read["cluster_statuses"] for host in cluster.get("host_statuses", ())]
            places = [(host["address"].get("socket_address", {}).get("address"), host["weight"]) for host in hosts]
            found.append({names[place]: weight for place, weight in sorted(places) if place in names})
        return found

    async def control(self, name: str, **patch: Any) -> None:
        async with self.http.post(f"{self._node_url(name)}/sim/control", json=patch) as answer:
            answer.raise_for_status()

    async def status(self, number: int) -> Json:
        """What this replica reports; {} where it does not answer."""
        return await asyncio.to_thread(self.replicas[number].read_status)

    async def both_know_all(self) -> bool:
        """Whether each replica has read each Envoy, which holds what it was offered."""
        for number in range(len(self.replicas)):
            envoys = (await self.status(number)).get("envoys", ())
            if len(envoys) != len(self.envoys) or not all(e["current"] and not e["error"] for e in envoys):
                return False
        return True

    async def conditions(self, name: str, kind: str) -> Json:
        """A condition as it stands on a ModelNode in the cluster."""
        path = locate(self.own(describe_node(name, 1)))
        read = await asyncio.to_thread(self.server.request, "GET", path)
        told = read.get("status", {}).get("conditions", ())
        return next((each for each in told if each["type"] == kind), {})

    async def answers(self, model: str = MODEL) -> bool:
        """Whether a request for the model is answered now, and not only when a node has worked off its queue."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.post(f"{self.url}/v1/chat/completions", json=body, timeout=SOON) as answer:
                return answer.status == 200
        return False

    async def is_well(self, url: str) -> bool:
        with suppress(aiohttp.ClientError):
            async with self.http.get(url) as answer:
                return answer.status == 200
        return False

    def _node_url(self, name: str) -> str:
        return f"http://{self.hosts[name]}:{self.ports[name]}"
