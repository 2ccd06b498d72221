"""The hash of a body's beginning, run in LuaJIT as Envoy runs it, held to a plain reading of HalfSipHash-1-3."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from weighbridge_operator.xds.scripts import write_blocks

BLOCK, MASK = 1024, 0xFFFFFFFF
ENDS = (128, 256, 512, *range(BLOCK, 62 * BLOCK, BLOCK))
State = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def script() -> Any:
    lua: Any = LuaRuntime(encoding=None)
    lua.execute(write_blocks().encode())
    return lua.globals()


def turn(value: int, by: int) -> int:
    return (value << by | value >> 32 - by) & MASK


def mix(state: State) -> State:
    v0, v1, v2, v3 = state
    v0 = (v0 + v1) & MASK
    v1 = turn(v1, 5) ^ v0
    v0 = turn(v0, 16)
    v2 = (v2 + v3) & MASK
    v3 = turn(v3, 8) ^ v2
    v0 = (v0 + v3) & MASK
    v3 = turn(v3, 7) ^ v0
    v2 = (v2 + v1) & MASK
    v1 = turn(v1, 13) ^ v2
    return v0, v1, turn(v2, 16), v3


def absorb(state: State, data: bytes) -> State:
    for (word,) in struct.iter_unpack("<I", data):
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = mix((v0, v1, v2, v3 ^ word))
        state = v0 ^ word, v1, v2, v3
    return state


def finish(state: State, mark: int) -> tuple[int, int]:
    v0, v1, v2, v3 = mix((*state[:3], state[3] ^ mark))
    state = v0 ^ mark, v1, v2 ^ 0xFF, v3
    for _ in range(3):
        state = mix(state)
    first = state[1] ^ state[3]
    state = state[0], state[1] ^ 0xDD, state[2], state[3]
    for _ in range(3):
        state = mix(state)
    return first, state[1] ^ state[3]


def begin(k0: int, k1: int) -> State:
    return k0, k1, 0x6C796765 ^ k0, 0x74656462 ^ k1


def name_blocks(body: bytes, k0: int, k1: int) -> bytes | None:
    state, hashes = begin(k0, k1), []
    for number, (start, end) in enumerate(pairwise([0, *ENDS]), start=1):
        if end > len(body):
            break
        state = absorb(state, body[start:end])
        hashes.append(f"{finish(state, number)[0]:08x}")
    return ".".join(hashes).encode() or None


def test_10_000_bodies_hash_as_they_should(script: Any) -> None:
    random = Random(1)
    for number in range(10_000):
        size = random.randrange(1800) if number % 100 else random.randrange(70_000)
        body, k0, k1 = random.randbytes(size), random.getrandbits(32), random.getrandbits(32)
        told = script[b"hash_blocks"](body, k0, k1)
        assert told == name_blocks(body, k0, k1), number


def test_it_is_halfsiphash() -> None:
    # The reference's vectors are of two rounds a word and four at the end; ours differ in nothing but their number.
    key = struct.unpack("<II", bytes(range(8)))
    v0, v1, v2, v3 = begin(*key)
    mark = 0
    v0, v1, v2, v3 = mix(mix((v0, v1, v2, v3 ^ mark)))
    state = v0 ^ mark, v1, v2 ^ 0xFF, v3
    for _ in range(4):
        state = mix(state)
    assert (state[1] ^ state[3]).to_bytes(4, "little") == bytes.fromhex("a9359f5b")


def test_bodies_share_as_many_hashes_as_blocks_and_never_more_than_64(script: Any) -> None:
    random = Random(2)
    body = random.randbytes(80_000)
    whole = script[b"hash_blocks"](body, 7, 8).split(b".")
    assert (len(whole), len(set(whole))) == (64, 64)
    for same in (0, 127, 128, 500, 1023, 1024, 5000, 40_000):
        other = body[:same] + bytes([body[same] ^ 1]) + body[same + 1 :]
        found = script[b"hash_blocks"](other, 7, 8).split(b".")
        shared = sum(one == two for one, two in zip(whole, found, strict=True))
        assert shared == sum(end <= same for end in ENDS)
        assert found[:shared] == whole[:shared]
    assert script[b"hash_blocks"](body[:127], 7, 8) is None
    assert script[b"hash_blocks"](body[:5000], 7, 8).split(b".") == whole[:7]


@pytest.mark.parametrize(
    ("before", "first"),
    [
        (b'{"model": "m", "max_tokens": 1234, "metadata": {"trace": "5f2e"}, ', b'"messages"'),
        (b'{"max_tokens":9,"model":"m",', b'"system"'),
        (b'{"prompt_cache_key": "k", ', b'"prompt"'),
        (b'{"temperature": 0, ', b'"input"'),
        (b"{", b'"contents"'),
    ],
)
def test_a_prompt_begins_where_its_first_part_stands(script: Any, before: bytes, first: bytes) -> None:
    body = before + first + b': "why?", "messages": []}'
    assert script[b"find_prompt"](body) == len(before) + 1


def test_a_body_without_a_prompt_begins_at_its_start(script: Any) -> None:
    assert script[b"find_prompt"](b"") == 1
    assert script[b"find_prompt"](b"x" * 2000 + b'"messages"') == 1


def test_without_the_key_nobody_knows_the_hash(script: Any) -> None:
    body = b"x" * BLOCK
    assert len({script[b"hash_blocks"](body, k0, k1) for k0 in range(40) for k1 in range(40)}) == 1600


@given(st.binary(max_size=2000))
@settings(max_examples=150)
def test_names_of_any_length_become_16_digits(script: Any, name: bytes) -> None:
    padded = name[:BLOCK] + b"\1\0\0\0"
    first, second = finish(absorb(begin(0, 0), padded[: len(padded) // 4 * 4]), len(name))
    assert script[b"hash_name"](name) == f"{first:08x}{second:08x}".encode()


TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["prompt_cache_key", '"prompt_cache_key":"x"', '\\"prompt_cache_key'])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=12,
)


def list_keys(value: Any) -> list[str]:
    """Every value of a key "prompt_cache_key" that is a text without what needs a backslash, wherever it stands."""
    if isinstance(value, list):
        return [key for one in value for key in list_keys(one)]
    if not isinstance(value, dict):
        return []
    found = [key for one in value.values() for key in list_keys(one)]
    named = value.get("prompt_cache_key")
    return [*found, named] if isinstance(named, str) and named else found


@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.booleans())
@settings(max_examples=400)
def test_a_cache_key_is_found_where_it_is_a_key(script: Any, value: dict[str, Any], wide: bool) -> None:
    body = json.dumps(value, ensure_ascii=False, separators=(" , ", " : ") if wide else (",", ":")).encode(
        "utf-8", "replace"
    )
    known = {key.encode("utf-8", "replace") for key in list_keys(json.loads(body))}
    told = script[b"find_string"](body, b'"prompt_cache_key"')
    plain = {key for key in known if json.dumps(key.decode(), ensure_ascii=False)[1:-1].encode() == key}
    assert told in plain if plain else told is None
