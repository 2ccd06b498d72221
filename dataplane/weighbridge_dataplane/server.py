"""The processor as a gRPC server on a Unix socket, beside the Envoy that asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest

from weighbridge_dataplane.protocol import answer

MESSAGE_LIMIT = 4 * 2**20  # bytes


class SocketUnavailableError(OSError):
    """Nobody can listen on the path."""


class Server(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]
    """`start`, and `stop` at the end."""

    def __init__(self) -> None:
        self._server: grpc.aio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listens. Raises SocketUnavailableError."""
        server = grpc.aio.server(options=(("grpc.max_receive_message_length", MESSAGE_LIMIT),))
        external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(self, server)
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise SocketUnavailableError(f"cannot listen on {path}: is its directory there and yours?") from error
        await server.start()
        self._server = server

    async def stop(self, grace: float) -> None:
        """Takes no new requests and lets those that run end, for `grace` seconds at most."""
        if self._server is not None:
            await self._server.stop(grace)

    async def Process(self, _requests: object, context: Any) -> None:  # noqa: N802
        """One HTTP request, from its headers to the end of its answer."""
        while isinstance(request := await context.read(), ProcessingRequest):
            if (response := answer(request)) is not None:
                await context.write(response)
