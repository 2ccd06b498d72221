"""What data planes say to each other, as bytes: frames of a length, a kind and a body. Pure.

Who connects says HELLO and then, again and again, SENT: what it sent to nodes since its last word, or nothing, which is
a sign of life; and BEGUN, how requests began that it sent there. Who was connected to answers with its HELLO and says
nothing else. A kind that is not known is passed over, so that a later version can say more; what can't be understood
ends the connection.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weighbridge_dataplane.facts import BLOCKS_MAXIMUM, Beginning, Sent, Told

VERSION: Final = 1
HELLO, SENT, BEGUN = 1, 2, 3
LONGEST: Final = 16 * 1024  # bytes of a frame's body
BEGUN_LONGEST: Final = 2 * 1024  # of one that says how requests began: to remember that may take a millisecond
ENTRIES: Final = 200  # of a frame, so that reading one holds no request up
ADDRESS_LONGEST: Final = 60  # bytes; of IPv6 with brackets and port 47
SESSION_LONGEST: Final = 32  # characters; a hash has 16
REQUESTS_MOST, TOKENS_MOST, AGE_MOST = 1_000_000, 1e9, 10.0
_MAGIC = b"weighbridge"
_HEAD, _HELLO, _ENTRY = struct.Struct(">HB"), struct.Struct(">11sB16s16sB"), struct.Struct(">BIff")
_BEGINNING = struct.Struct(">BBBIff")
_HASH = 4  # bytes


class WordError(ValueError):
    """What came is no word of a data plane; says what is wrong and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks: a process, the Envoy that it stands beside, and how many processes that Envoy has.

    `begins`: whether it tells how requests begin.
    """

    process: bytes  # 16 bytes, drawn at its start
    envoy: bytes  # 16 bytes, the same for all beside one Envoy
    processes: int = 1
    begins: bool = True


def print_hello(hello: Hello) -> bytes:
    told = _HELLO.pack(_MAGIC, VERSION, hello.process, hello.envoy, hello.processes)
    return _frame(HELLO, told + bytes((hello.begins,)))


def print_sent(sent: Sequence[Sent]) -> bytes:
    """As many frames as it needs; one where nothing was sent."""
    parts = [sent[at : at + ENTRIES] for at in range(0, len(sent), ENTRIES)] or [()]
    return b"".join(_frame(SENT, b"".join(_print_entry(each) for each in part)) for part in parts)


def print_begun(begun: Sequence[Beginning]) -> bytes:
    """As many frames as it needs."""
    frames, body = [], b""
    for each in map(_print_beginning, begun):
        if len(body) + len(each) > BEGUN_LONGEST:
            frames.append(_frame(BEGUN, body))
            body = b""
        body += each
    return b"".join([*frames, _frame(BEGUN, body)]) if body else b""


def _print_beginning(each: Beginning) -> bytes:
    address, session = each.address.encode()[:ADDRESS_LONGEST], (each.session or "").encode("ascii", "ignore")
    session = session if len(session) <= SESSION_LONGEST else b""
    blocks = each.blocks[:BLOCKS_MAXIMUM]
    tokens = min(each.tokens, TOKENS_MOST)
    head = _BEGINNING.pack(len(address), len(session), len(blocks), each.pool, tokens, each.trust)
    return head + address + session + bytes.fromhex("".join(blocks))


def _print_entry(each: Sent) -> bytes:
    address = each.address.encode()[:ADDRESS_LONGEST]
    requests, tokens = min(each.requests, REQUESTS_MOST), min(each.tokens, TOKENS_MOST)
    return _ENTRY.pack(len(address), requests, tokens, min(each.age, AGE_MOST)) + address


def _frame(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body), kind) + body


class Words:
    """Cuts what comes into words. `give` what came, then `take` until there is none."""

    def __init__(self) -> None:
        self._came = bytearray()

    def give(self, data: bytes) -> None:
        self._came += data

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits but the beginning of a word."""
        came = self._came
        return len(came) < _HEAD.size or len(came) < _HEAD.size + _HEAD.unpack_from(came)[0] <= LONGEST + _HEAD.size

    def take(self) -> Hello | tuple[Told, ...] | None:
        """The next word that is whole. Raises WordError; what follows can't be understood any more."""
        if len(self._came) < _HEAD.size:
            return None
        size, kind = _HEAD.unpack_from(self._came)
        if size > LONGEST:
            raise WordError(f"a frame of {size} bytes")
        end = _HEAD.size + size
        if len(self._came) < end:
            return None
        body = bytes(self._came[_HEAD.size : end])
        del self._came[:end]
        if kind == HELLO:
            return _read_hello(body)
        if kind == SENT:
            return _read_sent(body)
        return _read_begun(body) if kind == BEGUN else ()


def _read_hello(body: bytes) -> Hello:
    if body[:12] == _MAGIC + bytes((VERSION,)) and len(body) >= _HELLO.size:
        _, _, process, envoy, processes = _HELLO.unpack_from(body)
        return Hello(process, envoy, max(1, processes), begins=body[_HELLO.size : _HELLO.size + 1] == b"\1")
    if len(body) > 11 and body.startswith(_MAGIC):
        raise WordError(f"it speaks version {body[11]}, not {VERSION}")
    raise WordError("it is no data plane")


def _read_sent(body: bytes) -> tuple[Sent, ...]:
    sent: list[Sent] = []
    at = 0
    while at < len(body):
        if len(sent) == ENTRIES or len(body) - at < _ENTRY.size:
            raise WordError("a frame that does not hold what it says")
        size, requests, tokens, age = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        address = body[at : at + size]
        at += size
        if not 0 < size <= ADDRESS_LONGEST or len(address) != size or not address.isascii():
            raise WordError("an address that is none")
        if not (requests <= REQUESTS_MOST and _is_sound(tokens, TOKENS_MOST) and _is_sound(age, AGE_MOST)):
            raise WordError("a number that is none")
        sent.append(Sent(address.decode(), requests, tokens, age))
    return tuple(sent)


def _read_begun(body: bytes) -> tuple[Beginning, ...]:
    if len(body) > BEGUN_LONGEST:
        raise WordError(f"beginnings of {len(body)} bytes")
    begun: list[Beginning] = []
    at = 0
    while at < len(body):
        if len(body) - at < _BEGINNING.size:
            raise WordError("a frame that does not hold what it says")
        long, named, count, pool, tokens, trust = _BEGINNING.unpack_from(body, at)
        at += _BEGINNING.size
        end = at + long + named + _HASH * count
        if not 0 < long <= ADDRESS_LONGEST or named > SESSION_LONGEST or count > BLOCKS_MAXIMUM or end > len(body):
            raise WordError("a beginning that is none")
        text, hashes = body[at : at + long + named], body[at + long + named : end].hex()
        at = end
        if not text.isascii() or not (_is_sound(tokens, TOKENS_MOST) and _is_sound(trust, 1.0)):
            raise WordError("a beginning that is none")
        blocks = tuple(hashes[place : place + 2 * _HASH] for place in range(0, len(hashes), 2 * _HASH))
        address, session = text[:long].decode(), text[long:].decode()
        begun.append(Beginning(address, blocks, session or None, tokens, trust, pool))
    return tuple(begun)


def _is_sound(value: float, most: float) -> bool:
    return math.isfinite(value) and 0 <= value <= most
