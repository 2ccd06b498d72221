"""Frames of HTTP/2, the server's side, without I/O: bytes in, frames out, and frames made. RFC 9113."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_MAXIMUM: Final = 16_384
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, FLOW_ERROR, SIZE_ERROR, REFUSED, CALM = 0, 1, 3, 6, 7, 11


class BrokenError(Exception):
    """The peer broke the protocol."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class Frames:
    """Cuts what comes into frames; the first bytes must be those of a client."""

    def __init__(self) -> None:
        self._rest = b""
        self._greeted = False

    def take(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of each frame that is whole now. Raises BrokenError."""
        data, at = self._rest + data, 0
        if not self._greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise BrokenError(PROTOCOL_ERROR)
            self._greeted = len(data) >= len(PREFACE)
            at = len(PREFACE) if self._greeted else len(data) + 1
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if size > FRAME_MAXIMUM:
                raise BrokenError(SIZE_ERROR)
            begin, end = at + 9, at + 9 + size
            if len(data) < end:
                break
            stream = int.from_bytes(data[at + 5 : begin], "big") & 0x7FFFFFFF
            yield data[at + 3], data[at + 4], stream, data[begin:end]
            at = end
        self._rest = data[at:] if self._greeted else data


def make_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return b"".join((len(payload).to_bytes(3, "big"), bytes((kind, flags)), stream.to_bytes(4, "big"), payload))


def make_setting(key: int, value: int) -> bytes:
    return key.to_bytes(2, "big") + value.to_bytes(4, "big")


def make_update(stream: int, more: int) -> bytes:
    return make_frame(WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))


def make_reset(stream: int, code: int) -> bytes:
    return make_frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def make_goaway(last: int, code: int) -> bytes:
    return make_frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))
