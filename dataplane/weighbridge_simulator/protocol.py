"""HTTP/1.1 on a bare asyncio protocol: what a cheap model server needs and nothing else.

A connection serves one exchange at a time; further pipelined requests wait. An answer is whole or a stream of chunks.
A stream that is cut ends without its last chunk, so that no client takes it for complete. https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httptools

BODY_MAXIMUM = 64 * 1024 * 1024
_END = b"0\r\n\r\n"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Exchange:
    """One request and the means to answer it. `gone` is called if the client leaves before the answer is complete."""

    __slots__ = ("_connection", "body", "done", "gone", "headers", "keep_alive", "method", "path", "query")

    def __init__(
        self, connection: Connection, method: str, target: str, headers: dict[bytes, bytes], body: bytes
    ) -> None:
        self._connection = connection
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.done = False
        self.gone: Callable[[], None] | None = None

    @property
    def writable(self) -> bool:
        """Whether the client keeps up with what is written to it."""
        return self._connection.writable and not self.done

    def reply(self, status: int, body: bytes, content_type: bytes = b"application/json") -> None:
        """Answer whole."""
        if self.done:
            return
        head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (
            status,
            _REASONS.get(status, b"Unknown"),
            content_type,
            len(body),
        )
        self._connection.write(head + self._common() + b"\r\n" + body)
        self._finish()

    def start(self, content_type: bytes) -> None:
        """Send the head of a streamed answer."""
        if self.done:
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n" % content_type
        self._connection.write(head + self._common() + b"\r\n")

    def stream(self, content_type: bytes, data: bytes) -> None:
        """A whole streamed answer in one write."""
        if self.done:
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n" % content_type
        self._connection.write(head + self._common() + b"\r\n" + _frame(data) + _END)
        self._finish()

    def send(self, data: bytes) -> None:
        """Send a piece of a streamed answer."""
        if not self.done:
            self._connection.write(_frame(data))

    def finish(self, data: bytes = b"") -> None:
        """End a streamed answer, after a last piece if there is one."""
        if not self.done:
            self._connection.write((_frame(data) if data else b"") + _END)
            self._finish()

    def cut(self) -> None:
        """Close the connection as a dying process does: what was written arrives, the end never does."""
        self.done = True
        self._connection.close()

    def reset(self) -> None:
        """Reset the connection."""
        self.done = True
        self._connection.reset()

    def _common(self) -> bytes:
        extra = b""
        request_id = self.headers.get(b"x-request-id")
        if request_id is not None:
            extra += b"x-request-id: %b\r\n" % request_id
        if not self.keep_alive:
            extra += b"connection: close\r\n"
        return self._connection.fixed + extra

    def _finish(self) -> None:
        self.done = True
        self._connection.finished()


Handler = Callable[[Exchange], None]


class Connection(asyncio.Protocol):
    """One client's connection. `fixed` are header lines of every answer; `open_connections` holds all that are open."""

    def __init__(self, handler: Handler, fixed: bytes, open_connections: set[Connection]) -> None:
        self._handler = handler
        self._open = open_connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self.fixed = fixed
        self.writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the new connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Tell whoever was serving it that the client is gone."""
        self._transport = None
        self._open.discard(self)
        self._waiting.clear()
        current, self._current = self._current, None
        if current is not None:
            current.done = True
            if current.gone is not None:
                current.gone()

    def data_received(self, data: bytes) -> None:
        """Parse; anything that is not HTTP/1.1 is refused."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserError:
            self._refuse(413 if self._size > BODY_MAXIMUM else 400)

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self.writable = False

    def resume_writing(self) -> None:
        """The client keeps up again."""
        self.writable = True

    def on_message_begin(self) -> None:
        """Start a request."""
        self._url, self._headers, self._body, self._size = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Ask for the body where the client waits to be asked."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self._size += len(data)
        if self._size > BODY_MAXIMUM:
            raise ValueError("body too large")
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Serve the request, or put it behind the one that is being served."""
        target = self._url.decode("latin-1")
        method = self._parser.get_method().decode("latin-1")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        exchange = Exchange(self, method, target, self._headers, body)
        exchange.keep_alive = self._parser.should_keep_alive()
        if self._current is None and not self._waiting:
            self._serve(exchange)
        else:
            self._waiting.append(exchange)

    def finished(self) -> None:
        """The current answer is complete: go on with the next request, if it is here already."""
        keep_alive = self._current is None or self._current.keep_alive
        self._current = None
        if not keep_alive:
            self.close()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _serve(self, exchange: Exchange) -> None:
        self._current = exchange
        self._handler(exchange)

    def _next(self) -> None:
        if self._waiting and self._current is None:
            self._serve(self._waiting.popleft())

    def write(self, data: bytes) -> None:
        """Write, if the client is still there."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close after what was written."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close at once, with a reset rather than an orderly end."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _refuse(self, status: int) -> None:
        if self._transport is None:
            return
        if self._current is None:
            head = b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % (status, _REASONS[status])
            self._transport.write(head)
        self._transport.close()


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
