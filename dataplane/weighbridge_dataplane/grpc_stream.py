"""gRPC over HTTP/2 as far as an Envoy speaks it to the data plane, without I/O: bytes in, messages out.

Both services that an Envoy asks here are told apart by their first message (`server`), so that header blocks are never
read: no compression state is kept, and none is needed, for our own blocks are literals. That, and no task a stream, is
a quarter of what grpc.aio takes for the same exchange; messages may be answered at once or at any later time.

Everything is bounded: frames by the protocol's own 16 KiB, messages, streams at once, and bytes that wait for the
peer's window. What breaks the protocol ends the connection. RFC 9113; gRPC: PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from weighbridge_dataplane.frames import (
    ACK,
    CALM,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_ERROR,
    FRAME_MAXIMUM,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PROTOCOL_ERROR,
    PUSH,
    REFUSED,
    RST_STREAM,
    SETTINGS,
    SIZE_ERROR,
    WINDOW_UPDATE,
    BrokenError,
    Frames,
    make_frame,
    make_goaway,
    make_reset,
    make_setting,
    make_update,
)

MESSAGE_MAXIMUM: Final = 4 * 2**20
STREAMS_MAXIMUM: Final = 10_000
WAITING_MAXIMUM: Final = 16 * 2**20  # bytes for the peer's window
WINDOW: Final = 2 * MESSAGE_MAXIMUM  # bytes that a stream may send before we say that we took them
WHOLE_WINDOW: Final = 2**30
INITIAL_WINDOW_SETTING: Final = 4
DEFAULT_WINDOW: Final = 65_535

#: `:status: 200`, `content-type: application/grpc`; `grpc-status: 0`. Literals that no table remembers.
_HEAD: Final = b"\x88\x0f\x10\x10application/grpc"
_TRAILER: Final = b"\x00\x0bgrpc-status\x010"


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message of a stream."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more will come from the peer: it finished (`clean`), or gave the stream up."""

    stream: int
    clean: bool


@dataclass(slots=True)
class _Stream:
    window: int  # bytes that we may send
    begun: bool = False
    taken: int = 0  # bytes that came since we last said so
    inbox: bytearray = field(default_factory=bytearray)
    outbox: deque[bytes] = field(default_factory=deque)
    ending: bool = False  # the trailer follows what waits


class Connection:
    """The server's side of one connection. Once `closed` nothing comes any more, and what is to be sent is the last."""

    def __init__(self) -> None:
        settings = b"".join(make_setting(key, value) for key, value in ((3, STREAMS_MAXIMUM), (4, WINDOW), (1, 0)))
        self._out = [make_frame(SETTINGS, 0, 0, settings), make_update(0, WHOLE_WINDOW - DEFAULT_WINDOW)]
        self._frames = Frames()
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._block: int | None = None  # the stream whose header block is not whole
        self._ends = False  # whether that stream ends with it
        self._window, self._initial = DEFAULT_WINDOW, DEFAULT_WINDOW
        self._taken = self._waiting = 0
        self.closed = False
        self._leaving = False

    def receive(self, data: bytes) -> list[Message | Ended]:
        """What came, in order."""
        if self.closed:
            return []
        events: list[Message | Ended] = []
        try:
            for kind, flags, stream, payload in self._frames.take(data):
                self._take(kind, flags, stream, payload, events)
        except BrokenError as error:
            self._break(error.code)
        return events

    def _break(self, code: int) -> None:
        self._out.append(make_goaway(self._last, code))
        self.closed = True

    def answer(self, stream: int, message: bytes) -> None:
        """Sends a message; one to a stream that is gone goes nowhere."""
        known = self._streams.get(stream)
        if known is None or known.ending:
            return
        if not known.begun:
            known.begun = True
            self._out.append(make_frame(HEADERS, END_HEADERS, stream, _HEAD))
        data = b"\0" + len(message).to_bytes(4, "big") + message
        if known.outbox or len(data) > min(known.window, self._window, FRAME_MAXIMUM):
            self._waiting += len(data)
            known.outbox += (data[at : at + FRAME_MAXIMUM] for at in range(0, len(data), FRAME_MAXIMUM))
            self._flush()
            return
        known.window -= len(data)
        self._window -= len(data)
        self._out.append(make_frame(DATA, 0, stream, data))

    def end(self, stream: int) -> None:
        """Ends a stream well, after what was answered."""
        known = self._streams.get(stream)
        if known is not None:
            known.ending = True
            self._finish(stream, known)

    def leave(self) -> None:
        """Says that no new streams are taken."""
        if not self._leaving:
            self._leaving = True
            self._out.append(make_goaway(self._last, NO_ERROR))

    @property
    def idle(self) -> bool:
        return not self._streams

    def take_output(self) -> bytes:
        """What is to be sent now."""
        out, self._out = self._out, []
        return b"".join(out)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Message | Ended]) -> None:
        if (self._block is not None) != (kind == CONTINUATION) or (kind == CONTINUATION and stream != self._block):
            raise BrokenError(PROTOCOL_ERROR)
        if kind == DATA:
            self._take_data(flags, stream, payload, events)
        elif kind in (HEADERS, CONTINUATION):
            self._take_headers(kind, flags, stream, events)
        elif kind == RST_STREAM:
            if self._drop(stream):
                events.append(Ended(stream, clean=False))
        elif kind == SETTINGS:
            self._take_settings(flags, payload)
        elif kind == PUSH:
            raise BrokenError(PROTOCOL_ERROR)
        elif kind == PING:
            self._take_ping(flags, payload)
        elif kind == WINDOW_UPDATE:
            self._take_update(stream, payload)
        # Priorities, a farewell, and what is not known change nothing here.

    def _take_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise BrokenError(SIZE_ERROR)
        if not flags & ACK:
            self._out.append(make_frame(PING, ACK, 0, payload))

    def _take_headers(self, kind: int, flags: int, stream: int, events: list[Message | Ended]) -> None:
        if kind == HEADERS:
            self._ends = bool(flags & END_STREAM)
            if stream not in self._streams:
                self._open(stream)
        self._block = None if flags & END_HEADERS else stream
        if self._block is None and self._ends and stream in self._streams:
            events.append(Ended(stream, clean=True))

    def _open(self, stream: int) -> None:
        if stream % 2 == 0 or stream <= self._last:
            # Trailers of a stream that we ended are no new one.
            if stream % 2 and stream:
                return
            raise BrokenError(PROTOCOL_ERROR)
        self._last = stream
        if self._leaving or len(self._streams) >= STREAMS_MAXIMUM:
            self._out.append(make_reset(stream, REFUSED))
            return
        self._streams[stream] = _Stream(self._initial)

    def _take_data(self, flags: int, stream: int, payload: bytes, events: list[Message | Ended]) -> None:
        if stream == 0 or stream > self._last:
            raise BrokenError(PROTOCOL_ERROR)
        self._taken += len(payload)
        if self._taken > WHOLE_WINDOW // 2:
            self._out.append(make_update(0, self._taken))
            self._taken = 0
        known = self._streams.get(stream)
        if known is None:
            return  # it was ended or refused
        known.taken += len(payload)
        if flags & PADDED:
            if not payload or payload[0] >= len(payload):
                raise BrokenError(PROTOCOL_ERROR)
            payload = payload[1 : len(payload) - payload[0]]
        known.inbox += payload
        self._read_messages(stream, known, events)
        if flags & END_STREAM and stream in self._streams:
            events.append(Ended(stream, clean=True))
        elif known.taken > WINDOW // 2:
            self._out.append(make_update(stream, known.taken))
            known.taken = 0

    def _read_messages(self, stream: int, known: _Stream, events: list[Message | Ended]) -> None:
        while len(known.inbox) >= 5:
            size = int.from_bytes(known.inbox[1:5], "big")
            if known.inbox[0] or size > MESSAGE_MAXIMUM:  # we accept no compression
                self._out.append(make_reset(stream, CALM))
                self._drop(stream)
                events.append(Ended(stream, clean=False))
                return
            if len(known.inbox) < 5 + size:
                return
            events.append(Message(stream, bytes(known.inbox[5 : 5 + size])))
            del known.inbox[: 5 + size]

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % 6:
            raise BrokenError(SIZE_ERROR)
        if flags & ACK:
            return
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == INITIAL_WINDOW_SETTING:
                if value > 2**31 - 1:
                    raise BrokenError(FLOW_ERROR)
                for known in self._streams.values():
                    known.window += value - self._initial
                self._initial = value
        self._out.append(make_frame(SETTINGS, ACK, 0, b""))
        self._flush()

    def _take_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise BrokenError(SIZE_ERROR)
        more = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if stream == 0:
            self._window += more
            if not more or self._window > 2**31 - 1:
                raise BrokenError(FLOW_ERROR)
        elif (known := self._streams.get(stream)) is not None:
            known.window += more
        self._flush()

    def _flush(self) -> None:
        """Sends what waits, as far as the windows let it."""
        if not self._waiting:
            return
        for stream, known in list(self._streams.items()):
            while known.outbox and 0 < len(known.outbox[0]) <= min(known.window, self._window):
                data = known.outbox.popleft()
                known.window -= len(data)
                self._window -= len(data)
                self._waiting -= len(data)
                self._out.append(make_frame(DATA, 0, stream, data))
            if known.ending:
                self._finish(stream, known)
        if self._waiting > WAITING_MAXIMUM:
            self._break(CALM)

    def _finish(self, stream: int, known: _Stream) -> None:
        if known.outbox:
            return
        if not known.begun:
            self._out.append(make_frame(HEADERS, END_HEADERS, stream, _HEAD))
        self._out.append(make_frame(HEADERS, END_HEADERS | END_STREAM, stream, _TRAILER))
        self._drop(stream)

    def _drop(self, stream: int) -> bool:
        known = self._streams.pop(stream, None)
        if known is not None:
            self._waiting -= sum(map(len, known.outbox))
        return known is not None
