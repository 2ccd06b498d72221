"""The processor as a gRPC server on a Unix socket, beside the Envoy that asks it.

Messages pass as raw bytes and answers are made once for each node, which is what of Python's cost can be saved. On a
path the socket is bound under a name of its own and then renamed: a successor takes the path over while its predecessor
still answers what it has, and never is there no socket. A name that begins with "@" is one without a file (Linux), and
belongs to one process at a time.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from weighbridge_dataplane.exchange import Exchange, Head, Policies, let_pass, name_node
from weighbridge_dataplane.facts import Choice
from weighbridge_dataplane.records import FAILED, UNREADABLE, Kept, Records

MESSAGE_LIMIT = 4 * 2**20  # bytes
PATH_LIMIT = 100  # bytes of a path, of 107 that a socket's address holds
SERVICE, HEALTH = "envoy.service.ext_proc.v3.ExternalProcessor", "grpc.health.v1.Health"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse.status
SILENT = Choice(None, None)
QUIET = 10.0  # seconds between two lines about failures

log = logging.getLogger("dataplane")
Choose = Callable[[Head], Choice]


class SocketUnavailableError(OSError):
    """Nobody can listen there."""


class Server:
    """`start`, and `stop` at the end. `choose` answers a head that has a policy."""

    def __init__(self, choose: Choose, records: Records) -> None:
        self._choose, self._records = choose, records
        self._policies = Policies()
        self._server: grpc.aio.Server | None = None
        self._path: Path | None = None
        self._inode = 0
        self._told = float("-inf")
        self.serving = False

    async def start(self, socket: str) -> None:
        """Listens on a path, or on a name that begins with "@". Raises SocketUnavailableError."""
        server = grpc.aio.server(options=(("grpc.max_receive_message_length", MESSAGE_LIMIT),))
        process = grpc.stream_stream_rpc_method_handler(self._process)
        check = grpc.unary_unary_rpc_method_handler(self._check)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, {"Process": process}),
                grpc.method_handlers_generic_handler(HEALTH, {"Check": check}),
            )
        )
        self._bind(server, socket)
        await server.start()
        self._server, self.serving = server, True

    def _bind(self, server: grpc.aio.Server, socket: str) -> None:
        if socket.startswith("@"):
            _listen(server, f"unix-abstract:{socket[1:]}", socket)
            return
        path = Path(socket).absolute()
        if len(os.fsencode(path)) > PATH_LIMIT:
            raise SocketUnavailableError(f"cannot listen on {path}: it is longer than {PATH_LIMIT} bytes")
        own = path.with_name(f".{os.getpid()}")
        _listen(server, f"unix:{own}", str(path))
        try:
            self._inode = own.stat().st_ino
            own.rename(path)
        except OSError as error:
            raise SocketUnavailableError(f"cannot listen on {path}: {error.strerror}") from error
        self._path = path

    async def stop(self, grace: float) -> None:
        """Takes no new requests and lets those that run end, for `grace` seconds at most."""
        self.serving = False
        if self._server is None:
            return
        await self._server.stop(grace)
        with suppress(OSError):
            if self._path is not None and self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _check(self, _request: bytes, _context: Any) -> bytes:
        return SERVING if self.serving else NOT_SERVING

    async def _process(self, _requests: object, context: Any) -> None:
        """One HTTP request, for as long as Envoy asks about it."""
        exchange = Exchange(self._policies)
        while isinstance(message := await context.read(), bytes):
            answer = self._take(exchange, message)
            if answer is None:
                return
            await context.write(answer)
            if exchange.ended:
                return

    def _take(self, exchange: Exchange, message: bytes) -> bytes | None:
        """The answer; None where there is none, which ends the exchange and lets the request pass."""
        began = time.perf_counter()
        try:
            part = exchange.receive(message)
            if isinstance(part, Head):
                return self._answer(part, began)
            return None if part is None else let_pass(part.kind)
        except Exception as error:
            self._records.silent[FAILED] += 1
            self._tell(error)
            return None

    def _answer(self, head: Head, began: float) -> bytes:
        failure, choice, answer = None, SILENT, let_pass("request_headers")
        if head.policy is None:
            failure = UNREADABLE
        else:
            try:
                choice = self._choose(head)
                if (member := choice.member) is not None:
                    answer = name_node(member.address, member.cluster if head.policy.via else None)
            except Exception as error:
                failure, choice = FAILED, SILENT
                self._tell(error)
        self._records.note(Kept(time.time(), head, choice, failure), time.perf_counter() - began)
        return answer

    def _tell(self, error: Exception) -> None:
        """Where it failed, not its text, which may hold something of a request."""
        now = time.monotonic()
        if now - self._told < QUIET:
            return
        self._told = now
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
        log.error("a choice failed with %s at %s; the weights decide such requests", type(error).__name__, where)


def _listen(server: grpc.aio.Server, target: str, told: str) -> None:
    try:
        bound = server.add_insecure_port(target)
    except RuntimeError:
        bound = 0
    if not bound:
        remedy = "another process has it" if told.startswith("@") else "is its directory there and yours?"
        raise SocketUnavailableError(f"cannot listen on {told}: {remedy}")
