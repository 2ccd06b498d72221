"""Small xDS messages, a bootstrap that finds an ADS server, a node and a steady caller: what tests of xDS share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import aiohttp
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.json_format import ParseDict

ADS = {"ads": {}, "resource_api_version": "V3"}


def make_cluster(name: str, *, checked: bool = False, timeout: str = "1s") -> Cluster:
    """An EDS cluster, with active health checks if `checked`."""
    fields: dict[str, Any] = {
        "name": name,
        "type": "EDS",
        "connect_timeout": timeout,
        "eds_cluster_config": {"eds_config": ADS},
        "ignore_health_on_host_removal": True,
    }
    if checked:
        fields["health_checks"] = [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/health"},
            }
        ]
    return ParseDict(fields, Cluster())


def make_assignment(name: str, ports: Iterable[int], weights: Iterable[int] = ()) -> ClusterLoadAssignment:
    """Endpoints on loopback; without weights every one has weight 1."""
    message = ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    given = list(weights)
    for number, port in enumerate(ports):
        endpoint = locality.lb_endpoints.add()
        endpoint.endpoint.address.socket_address.address = "127.0.0.1"
        endpoint.endpoint.address.socket_address.port_value = port
        endpoint.load_balancing_weight.value = given[number] if given else 1
    return message


def make_routes(name: str, *clusters: str, **headers: str) -> RouteConfiguration:
    """Everything to these clusters in equal shares. `headers` are added to each answer."""
    added = [{"header": {"key": key, "value": value}} for key, value in sorted(headers.items())]
    shares = [{"name": cluster, "weight": 1} for cluster in clusters]
    action = {"cluster": clusters[0]} if len(clusters) == 1 else {"weighted_clusters": {"clusters": shares}}
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": action}]}
    return ParseDict({"name": name, "virtual_hosts": [host], "response_headers_to_add": added}, RouteConfiguration())


def make_listener(name: str, routes: str, port: int = 0) -> Listener:
    """An HTTP listener on loopback whose routes come over ADS."""
    manager = HttpConnectionManager(stat_prefix=name)
    manager.rds.route_config_name = routes
    ParseDict(ADS, manager.rds.config_source)
    manager.http_filters.add(name="router").typed_config.Pack(Router())
    message = Listener(name=name)
    message.address.socket_address.address = "127.0.0.1"
    message.address.socket_address.port_value = port
    message.filter_chains.add().filters.add(name="http").typed_config.Pack(manager)
    return message


def make_bootstrap(ads_port: int, *, admin_port: int | None = None, gateway: str = "test") -> dict[str, Any]:
    """A bootstrap that takes everything from the ADS server at this port, and tells its admin port if given."""
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "2s", "timeout": "1s"}}
        },
    }
    target = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ads_port}}}
    service = {
        "envoy_grpc": {
            "cluster_name": "ads",
            "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "1s"}},
        }
    }
    told = {"weighbridge": {"stats": f"http://127.0.0.1:{admin_port}"}} if admin_port is not None else {}
    return {
        "node": {"id": "envoy-1", "cluster": gateway, "metadata": told},
        "dynamic_resources": {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]},
            "cds_config": ADS,
            "lds_config": ADS,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "ads",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {"cluster_name": "ads", "endpoints": [{"lb_endpoints": [{"endpoint": target}]}]},
                }
            ]
        },
    }


class Upstream:
    """A node that answers every request with 200 and its name, over kept connections."""

    def __init__(self, name: str = "node") -> None:
        self.name = name
        self.port = 0
        self.served = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        body = self.name.encode()
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.served += 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()


class Caller:
    """Sends requests at a steady rate for as long as the block lasts, and counts what is lost."""

    def __init__(self, port: int, rate: float = 200.0) -> None:
        self._url, self._pause = f"http://127.0.0.1:{port}/", 1 / rate
        self.answered = 0
        self.lost: list[str] = []
        self._done = asyncio.Event()

    async def __aenter__(self) -> Caller:
        self._http = aiohttp.ClientSession()
        self._sending = asyncio.create_task(self._send_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        await self._http.close()

    async def wait_for(self, count: int) -> None:
        """Waits until this many more requests were answered or lost."""
        async with asyncio.timeout(30):
            for _ in range(count):
                self._done.clear()
                await self._done.wait()

    async def _send_all(self) -> None:
        async with asyncio.TaskGroup() as requests:
            while True:
                requests.create_task(self._send())
                await asyncio.sleep(self._pause)

    async def _send(self) -> None:
        try:
            async with self._http.get(self._url) as answer:
                text = await answer.text()
            if answer.status == 200:
                self.answered += 1
            else:
                self.lost.append(f"{answer.status} {text}")
        except aiohttp.ClientError as error:
            self.lost.append(repr(error))
        self._done.set()
