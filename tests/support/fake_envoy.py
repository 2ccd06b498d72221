"""What a data plane reads, without Envoy and without nodes; and a request, as Envoy asks."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any

import grpc
from aiohttp import web
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from weighbridge_dataplane.exchange import FILTER

PAGE = b"""vllm:num_requests_running 1
vllm:num_requests_waiting 0
vllm:kv_cache_usage_perc 0.1
vllm:prompt_tokens_total 5
vllm:generation_tokens_total 5
"""
COUNTS = ("cx_connect_fail", "rq_error", "rq_timeout", "rq_total", "rq_active", "rq_pending_active")


class FakeEnvoy:
    """`async with FakeEnvoy(3) as envoy:` its administration interface, and the pages of its nodes.

    Those in `bad` answer as it says. `of`: it has that one's nodes.
    """

    def __init__(self, nodes: int, bad: dict[int, str] | None = None, of: FakeEnvoy | None = None) -> None:
        self.nodes, self.bad = nodes, bad or {}
        self.asked = [0] * nodes
        self.port, self._of = 0, of or self
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeEnvoy:
        app = web.Application()
        app.add_routes(
            [web.get("/runtime", self.runtime), web.get("/stats", self.stats), web.get("/page/{number}", self.page)]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def address(self, number: int) -> str:
        return f"127.0.0.{number + 1}:{self._of.port}"

    async def runtime(self, _: web.Request) -> web.Response:
        nodes = [
            {
                "address": self.address(number),
                "node": f"default/n{number}",
                "engine": "vllm",
                "metrics": [f"http://127.0.0.1:{self._of.port}/page/{number}"],
            }
            for number in range(self.nodes)
        ]
        text = json.dumps({"nodes": nodes})
        return web.json_response({"entries": {"weighbridge.pool.p": {"final_value": text, "layer_values": [text]}}})

    async def stats(self, request: web.Request) -> web.Response:
        assert "rq_pending_active" in request.query["filter"]
        every = [f"cluster.p.endpoint.{self.address(n).replace(':', '_')}" for n in range(self.nodes)]
        lines = [f"{name}.{what}: 0" for name in every for what in COUNTS] + [f"{name}.healthy: 1" for name in every]
        return web.Response(text="\n".join(lines))

    async def page(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"])
        self.asked[number] += 1
        match self.bad.get(number):
            case "hangs":
                await asyncio.sleep(60)
            case "huge":
                return web.Response(body=b"x" * (2 * 2**20))
            case "redirects":
                raise web.HTTPFound("/page/0")
            case "garbage":
                return web.Response(body=b"\xff\x00" * 1000)
            case _:
                pass
        return web.Response(body=PAGE)


async def ask(socket: str, policy: str | None, **headers: str) -> ProcessingResponse | None:
    """One head of a request, as Envoy sends it; in the names of headers write _ for a dash."""
    request = ProcessingRequest()
    request.request_headers.SetInParent()
    for name, value in headers.items():
        header = request.request_headers.headers.headers.add()
        header.key, header.raw_value = name.replace("_", "-"), value.encode()
    if policy is not None:
        request.attributes[FILTER].update({"xds.route_metadata": policy})
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")()
        await call.write(request.SerializeToString())
        answer: Any = await call.read()
        call.cancel()
    return ProcessingResponse.FromString(answer) if isinstance(answer, bytes) else None
