"""HTTP/2 as Envoy speaks it: the same events however bytes are cut, windows kept, and no bytes that break anything."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from weighbridge_dataplane import frames, grpc_stream
from weighbridge_dataplane.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_MAXIMUM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    REFUSED,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    make_frame,
    make_reset,
    make_setting,
    make_update,
)
from weighbridge_dataplane.grpc_stream import DEFAULT_WINDOW, MESSAGE_MAXIMUM, Connection, Ended, Message

Frame = tuple[int, int, int, bytes]
HELLO = PREFACE + make_frame(SETTINGS, 0, 0, b"")


def ask(stream: int, message: bytes, flags: int = 0) -> bytes:
    data = b"\0" + len(message).to_bytes(4, "big") + message
    return make_frame(HEADERS, END_HEADERS, stream, b"\x83") + make_frame(DATA, flags, stream, data)


def look(out: bytes) -> Iterator[Frame]:
    """The frames that were sent."""
    at = 0
    while at < len(out):
        size = int.from_bytes(out[at : at + 3], "big")
        stream = int.from_bytes(out[at + 5 : at + 9], "big")
        yield out[at + 3], out[at + 4], stream, out[at + 9 : at + 9 + size]
        at += 9 + size


def greeted(*more: bytes) -> Connection:
    connection = Connection()
    connection.receive(HELLO + b"".join(more))
    connection.take_output()
    return connection


def test_a_request_is_answered_and_ends_with_the_peers_end() -> None:
    connection = greeted()
    assert connection.receive(ask(1, b"question")) == [Message(1, b"question")]
    connection.answer(1, b"answer")
    head, data = look(connection.take_output())
    assert head[:3] == (HEADERS, END_HEADERS, 1)
    assert data == (DATA, 0, 1, b"\0\0\0\0\x06answer")
    assert connection.receive(make_frame(DATA, END_STREAM, 1, b"")) == [Ended(1, clean=True)]
    connection.end(1)
    ((kind, flags, stream, block),) = look(connection.take_output())
    assert (kind, flags, stream) == (HEADERS, END_HEADERS | END_STREAM, 1)
    assert b"grpc-status\x010" in block
    assert connection.idle


def test_a_stream_that_is_given_up_is_forgotten() -> None:
    connection = greeted(ask(1, b"question"))
    assert connection.receive(make_reset(1, 8)) == [Ended(1, clean=False)]
    connection.answer(1, b"late")
    assert connection.take_output() == b""
    assert connection.idle


@given(st.lists(st.integers(1, 40), max_size=30), st.lists(st.binary(max_size=50), min_size=1, max_size=4))
def test_however_bytes_are_cut_the_events_are_the_same(cuts: list[int], messages: list[bytes]) -> None:
    every = HELLO
    for number, message in enumerate(messages):
        every += ask(2 * number + 1, message) + make_frame(PING, 0, 0, bytes(8))
        every += make_frame(77, 0, 0, b"of a later version") + make_update(2 * number + 1, 10)
    connection, events, rest = Connection(), [], every
    for cut in [*cuts, len(every)]:
        events += connection.receive(rest[:cut])
        rest = rest[cut:]
    assert events == [Message(2 * number + 1, message) for number, message in enumerate(messages)]
    assert not connection.closed
    assert sum(frame[:2] == (PING, ACK) for frame in look(connection.take_output())) == len(messages)


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=30)), max_size=20)
)
def test_no_frames_raise(sent: list[Frame]) -> None:
    connection = Connection()
    for event in connection.receive(HELLO + b"".join(make_frame(*frame) for frame in sent)):
        connection.answer(event.stream, b"x")
        connection.end(event.stream)
    assert list(look(connection.take_output()))
    if connection.closed:
        assert connection.receive(ask(99, b"more")) == []


@given(st.binary(max_size=100))
def test_no_bytes_raise(data: bytes) -> None:
    Connection().receive(data)
    Connection().receive(HELLO + data)


def test_what_is_no_http2_is_told_and_ends() -> None:
    connection = Connection()
    connection.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert connection.closed
    assert [frame[0] for frame in look(connection.take_output())] == [SETTINGS, WINDOW_UPDATE, GOAWAY]


def test_a_header_block_in_pieces_lets_nothing_come_between() -> None:
    pieces = make_frame(HEADERS, 0, 1, b"a"), make_frame(CONTINUATION, END_HEADERS, 1, b"b")
    assert not greeted(*pieces).closed
    assert greeted(pieces[0], make_frame(PING, 0, 0, bytes(8))).closed
    assert greeted(pieces[1]).closed


def test_padding_is_no_part_of_a_message() -> None:
    connection = greeted(make_frame(HEADERS, END_HEADERS, 1, b""))
    padded = make_frame(DATA, PADDED, 1, b"\x03" + b"\0\0\0\0\x02hi" + bytes(3))
    assert connection.receive(padded) == [Message(1, b"hi")]
    assert greeted(ask(1, b""), make_frame(DATA, PADDED, 1, b"\x09x")).closed


def test_answers_wait_for_the_peers_windows_and_keep_their_order() -> None:
    connection = greeted(make_frame(SETTINGS, 0, 0, make_setting(4, 20)), ask(1, b"a"), ask(3, b"b"))
    connection.answer(1, b"x" * 10)
    connection.answer(1, b"y" * 10)
    connection.answer(3, b"z")
    connection.end(1)
    sent = [frame for frame in look(connection.take_output()) if frame[0] == DATA]
    assert [(stream, data[-1:]) for _, _, stream, data in sent] == [(1, b"x"), (3, b"z")]
    connection.receive(make_update(1, 100))
    last, trailer = look(connection.take_output())
    assert last[3].endswith(b"y" * 10)
    assert trailer[:3] == (HEADERS, END_HEADERS | END_STREAM, 1)


def test_the_connections_own_window_holds_too() -> None:
    connection = greeted(make_frame(SETTINGS, 0, 0, make_setting(4, 2**20)), ask(1, b"a"))
    connection.answer(1, b"x" * (DEFAULT_WINDOW + 1000))
    sent = sum(len(data) for kind, _, _, data in look(connection.take_output()) if kind == DATA)
    assert DEFAULT_WINDOW - FRAME_MAXIMUM <= sent <= DEFAULT_WINDOW
    connection.receive(make_update(0, 2**20))
    sent += sum(len(data) for kind, _, _, data in look(connection.take_output()) if kind == DATA)
    assert sent == DEFAULT_WINDOW + 1000 + 5


def test_a_peer_that_sends_much_is_told_that_it_was_taken() -> None:
    connection = greeted(make_frame(HEADERS, END_HEADERS, 1, b""))
    message = b"\0" + (3 * 2**20).to_bytes(4, "big") + bytes(3 * 2**20)
    events = []
    for _ in range(2):
        for at in range(0, len(message), FRAME_MAXIMUM):
            events += connection.receive(make_frame(DATA, 0, 1, message[at : at + FRAME_MAXIMUM]))
    assert [len(event.data) for event in events if isinstance(event, Message)] == [3 * 2**20] * 2
    assert (WINDOW_UPDATE, 1) in [(kind, stream) for kind, _, stream, _ in look(connection.take_output())]


def test_a_message_that_is_too_large_costs_its_stream_alone() -> None:
    connection = greeted(ask(1, b"good"), make_frame(HEADERS, END_HEADERS, 3, b""))
    huge = b"\0" + (MESSAGE_MAXIMUM + 1).to_bytes(4, "big")
    assert connection.receive(make_frame(DATA, 0, 3, huge)) == [Ended(3, clean=False)]
    assert [frame[0] for frame in look(connection.take_output())] == [RST_STREAM]
    connection.answer(1, b"still here")
    assert connection.take_output()


def test_streams_are_bounded_and_one_that_leaves_takes_none() -> None:
    connection = greeted()
    for number in range(grpc_stream.STREAMS_MAXIMUM + 1):
        connection.receive(make_frame(HEADERS, END_HEADERS, 2 * number + 1, b""))
    (refused,) = look(connection.take_output())
    assert refused == (RST_STREAM, 0, 2 * grpc_stream.STREAMS_MAXIMUM + 1, REFUSED.to_bytes(4, "big"))
    leaving = greeted(ask(1, b"a"))
    leaving.leave()
    leaving.receive(ask(3, b"b"))
    assert [frame[0] for frame in look(leaving.take_output())] == [GOAWAY, RST_STREAM]
    leaving.answer(1, b"done")
    assert leaving.take_output()


def test_a_frame_above_the_protocols_size_ends_the_connection() -> None:
    assert greeted(make_frame(DATA, 0, 1, bytes(frames.FRAME_MAXIMUM + 1))).closed
