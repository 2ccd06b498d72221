"""Bytes to a gateway as no client would send them, over HTTP/1.1 and HTTP/2, and what comes back until it is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
Header = tuple[bytes, bytes]


async def exchange(port: int, sent: bytes, patience: float = 1.0) -> bytes:
    """What is answered until the connection ends or nothing comes for `patience` seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    try:
        writer.write(sent)
        while piece := await asyncio.wait_for(reader.read(65536), patience):
            heard += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return heard


def write_request(headers: Sequence[bytes], body: bytes, target: bytes = b"/v1/chat/completions") -> bytes:
    """An HTTP/1.1 request with these header lines and no others but Host."""
    lines = [b"POST " + target + b" HTTP/1.1", b"Host: gateway", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def write_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def write_headers(headers: Iterable[Header]) -> bytes:
    """Literal fields without indexing (RFC 7541), whatever they hold."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)


def write_h2(headers: Iterable[Header], *data: bytes) -> bytes:
    """A connection with one request."""
    sent = PREFACE + write_frame(SETTINGS, 0, 0, b"")
    sent += write_frame(HEADERS, END_HEADERS if data else END_HEADERS | END_STREAM, 1, write_headers(headers))
    for number, piece in enumerate(data, start=1):
        sent += write_frame(DATA, END_STREAM if number == len(data) else 0, 1, piece)
    return sent


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, length = len(value) - 127, b""
    while rest >= 128:
        length += bytes((rest % 128 + 128,))
        rest //= 128
    return b"\x7f" + length + bytes((rest,)) + value
