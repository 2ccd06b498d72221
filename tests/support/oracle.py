"""A data plane for tests: names the node that the test says, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from google.protobuf.message import Message

_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse


class Oracle(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]
    """`async with Oracle() as oracle:` answers at `oracle.path`; without `address` it names nobody.

    `cluster` is named with it; `pause` are seconds before it answers.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="oracle-")
        self.path = str(Path(self._folder.name) / "socket")
        self.address: str | None = None
        self.cluster: str | None = None
        self.pause = 0.0
        self.asked: list[ProcessingRequest] = []

    async def __aenter__(self) -> Oracle:
        self._server = grpc.aio.server()
        external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(self, self._server)
        check = grpc.unary_unary_rpc_method_handler(_check)
        handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(f"unix:{self.path}")
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(0)
        self._folder.cleanup()

    async def Process(self, _: object, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        request = await context.read()
        self.asked.append(request)
        await asyncio.sleep(self.pause)
        with suppress(asyncio.CancelledError):
            await context.write(self._answer())

    def _answer(self) -> Message:
        answer = ProcessingResponse()
        answer.request_headers.SetInParent()
        if self.address is not None:
            answer.dynamic_metadata.update({"weighbridge.choice": {"node": self.address, "by": "precise"}})
            if self.cluster is not None:
                common = answer.request_headers.response
                option = common.header_mutation.set_headers.add()
                option.header.key, option.header.raw_value = "x-weighbridge-cluster", self.cluster.encode()
                common.clear_route_cache = True
        return answer


async def _check(_: bytes, __: object) -> bytes:
    return _SERVING
