"""The processor on a Unix socket, beside the Envoy that asks it: connections in, choices out.

On a path the socket is bound under a name of its own and then renamed: a successor takes the path over while its
predecessor still answers what it has, and never is there no socket. A name that begins with "@" is one without a file
(Linux), and belongs to one process at a time.

Envoy asks two services here, and their messages cannot be mistaken for each other: a health check's is empty or begins
with its field 1, a text; a request's begins with another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket as sockets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from weighbridge_dataplane.choices import Kept
from weighbridge_dataplane.exchange import Exchange, Head, Policies, let_pass, name_node
from weighbridge_dataplane.facts import Choice
from weighbridge_dataplane.grpc_stream import Connection, Message
from weighbridge_dataplane.punctuality import BEAT, Punctuality
from weighbridge_dataplane.records import FAILED, UNREADABLE, Records

PATH_LIMIT = 100  # bytes of a path, of 107 that a socket's address holds
BACKLOG = 1_024
UNSENT_LIMIT = 16 * 2**20  # bytes that an Envoy does not take
HEALTH_FIELD = 0x0A  # HealthCheckRequest.service
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
        self.policies = Policies()
        self.links: set[Link] = set()
        self._punctuality = Punctuality()
        self._watching: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._inode = 0
        self._told = float("-inf")
        self.serving = False

    async def start(self, socket: str) -> None:
        """Listens on a path, or on a name that begins with "@". Raises SocketUnavailableError."""
        listening = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            self._bind(listening, socket)
            self._server = await asyncio.get_running_loop().create_unix_server(lambda: Link(self), sock=listening)
        except OSError as error:
            listening.close()
            raise _explain(socket, error) from error
        self.serving = True
        self._watching = asyncio.create_task(self._watch_time())

    def _bind(self, listening: sockets.socket, socket: str) -> None:
        if socket.startswith("@"):
            listening.bind(f"\0{socket[1:]}")
            listening.listen(BACKLOG)
            return
        path = Path(socket).absolute()
        if os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketUnavailableError(f"cannot listen on {path}: it is there and no socket; name another path")
        if len(os.fsencode(path)) > PATH_LIMIT:
            raise SocketUnavailableError(f"cannot listen on {path}: it is longer than {PATH_LIMIT} bytes")
        # Drawn, since processes of several containers may share the directory and each be number 1 of its own.
        own = path.with_name(f".{secrets.token_hex(3)}")
        listening.bind(str(own))
        listening.listen(BACKLOG)
        self._inode = own.stat().st_ino
        own.rename(path)
        self._path = path

    @property
    def in_time(self) -> bool:
        """Whether Envoy had better ask."""
        return self._punctuality.is_kept(time.monotonic())

    async def _watch_time(self) -> None:
        while True:
            due = time.monotonic() + BEAT
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            self._punctuality.feel(now - due, now)

    async def stop(self, grace: float) -> None:
        """Takes no new requests and lets those that run end, for `grace` seconds at most."""
        self.serving = False
        if self._server is None:
            return
        self._server.close()
        with suppress(OSError):
            if self._path is not None and self._path.stat().st_ino == self._inode:
                self._path.unlink()
        for link in self.links:
            link.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while not all(link.idle for link in self.links):  # noqa: ASYNC110  links tell nobody
                    await asyncio.sleep(0.01)
        for link in list(self.links):
            link.close()
        if self._watching is not None:
            self._watching.cancel()

    def take(self, exchange: Exchange, message: bytes) -> bytes | None:
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
                    answer = name_node(member.address, head.policy.lead_to(member.cluster))
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


class Link(asyncio.Protocol):
    """One connection of Envoy's: each stream is a request, or a health check."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = Connection()
        self._exchanges: dict[int, Exchange] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.links.add(self)
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        self._server.links.discard(self)

    def data_received(self, data: bytes) -> None:
        for event in self._connection.receive(data):
            if isinstance(event, Message):
                self._take(event)
            else:
                self._exchanges.pop(event.stream, None)
                if event.clean:
                    self._connection.end(event.stream)
        self._send()
        if self._connection.closed:
            self.close()

    def _take(self, message: Message) -> None:
        stream, data = message.stream, message.data
        exchange = self._exchanges.get(stream)
        if exchange is None:
            if not data or data[0] == HEALTH_FIELD:
                asked = self._server.serving and self._server.in_time
                self._connection.answer(stream, SERVING if asked else NOT_SERVING)
                self._connection.end(stream)
                return
            exchange = self._exchanges[stream] = Exchange(self._server.policies)
        answer = self._server.take(exchange, data)
        if answer is None:
            self._exchanges.pop(stream)
            self._connection.end(stream)
        else:
            self._connection.answer(stream, answer)

    def _send(self) -> None:
        assert self._transport is not None
        if out := self._connection.take_output():
            self._transport.write(out)
            if self._transport.get_write_buffer_size() > UNSENT_LIMIT:
                self._transport.abort()

    @property
    def idle(self) -> bool:
        return self._connection.idle

    def leave(self) -> None:
        """Lets what runs here end, and takes nothing new."""
        self._connection.leave()
        self._send()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


def _explain(socket: str, error: OSError) -> SocketUnavailableError:
    if isinstance(error, SocketUnavailableError):
        return error
    remedy = "another process has it" if socket.startswith("@") else "is its directory there and yours?"
    return SocketUnavailableError(f"cannot listen on {socket}: {error.strerror or error}; {remedy}")
