"""A language model of random weights in llama.cpp's file format: a llama of two layers that writes letters without end.

GGUF version 3, little-endian: github.com/ggml-org/ggml/blob/master/docs/gguf.md. The vocabulary is one of SentencePiece
with a token for each byte, so that any prompt can be read. Of its answers only the length matters, hence one channel
of the hidden state is kept constant and tells the last layer: letters, never a byte, never the end.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

ALIGNMENT = 32
UINT32, FLOAT32, INT32, STRING, ARRAY = 4, 6, 5, 8, 9
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SURE = 8.0  # of the constant channel: far above what the others add up to


@dataclass(frozen=True, slots=True)
class Size:
    """Of the model: width, layers, heads, and the width of the inner layers."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    inner: int = 128
    context: int = 16_384


@dataclass(frozen=True, slots=True)
class Typed:
    """A value of the file's header with its type; a list has that of its entries."""

    kind: int
    value: int | float | str | Sequence[int] | Sequence[float] | Sequence[str]


def write_model(path: Path, size: Size | None = None, seed: int = 1) -> Path:
    """Writes the model and answers where."""
    size = size or Size()
    header = _describe(size)
    tensors = _invent(size, random.Random(seed))
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(header)))
        for name, typed in header.items():
            file.write(_pack_string(name) + _pack(typed))
        at = 0
        for name, (shape, _) in tensors.items():
            dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            file.write(_pack_string(name) + dimensions + struct.pack("<IQ", 0, at))
            at += _padded(4 * prod(shape))
        file.write(bytes(-file.tell() % ALIGNMENT))
        for _, values in tensors.values():
            data = values.tobytes()
            file.write(data + bytes(_padded(len(data)) - len(data)))
    return path


def _vocabulary() -> list[tuple[str, int, float]]:
    """Tokens with their kind and score."""
    special = [("<unk>", UNKNOWN, 0.0), ("<s>", CONTROL, 0.0), ("</s>", CONTROL, 0.0)]
    in_bytes = [(f"<0x{byte:02X}>", BYTE, 0.0) for byte in range(256)]
    return [*special, *in_bytes, *((letter, NORMAL, -1.0) for letter in LETTERS), ("▁", NORMAL, -1.0)]


def _describe(size: Size) -> Mapping[str, Typed]:
    words = _vocabulary()
    return {
        "general.architecture": Typed(STRING, "llama"),
        "general.name": Typed(STRING, "tiny"),
        "llama.context_length": Typed(UINT32, size.context),
        "llama.embedding_length": Typed(UINT32, size.width),
        "llama.block_count": Typed(UINT32, size.layers),
        "llama.feed_forward_length": Typed(UINT32, size.inner),
        "llama.attention.head_count": Typed(UINT32, size.heads),
        "llama.attention.layer_norm_rms_epsilon": Typed(FLOAT32, 1e-5),
        "llama.rope.dimension_count": Typed(UINT32, size.width // size.heads),
        "llama.vocab_size": Typed(UINT32, len(words)),
        "tokenizer.ggml.model": Typed(STRING, "llama"),
        "tokenizer.ggml.tokens": Typed(STRING, [word for word, _, _ in words]),
        "tokenizer.ggml.scores": Typed(FLOAT32, [score for _, _, score in words]),
        "tokenizer.ggml.token_type": Typed(INT32, [kind for _, kind, _ in words]),
        "tokenizer.ggml.bos_token_id": Typed(UINT32, 1),
        "tokenizer.ggml.eos_token_id": Typed(UINT32, 2),
        "tokenizer.ggml.unknown_token_id": Typed(UINT32, 0),
    }


Tensor = tuple[tuple[int, ...], "array[float]"]  # of a matrix the columns come first


def _invent(size: Size, chance: random.Random) -> dict[str, Tensor]:
    width, words = size.width, _vocabulary()
    tensors: dict[str, Tensor] = {
        # Channel 0 of every word is the same, and no layer adds to it.
        "token_embd.weight": _matrix(width, len(words), chance, lead=lambda _: SURE),
        "output_norm.weight": ((width,), array("f", [1.0] * width)),
        "output.weight": _matrix(width, len(words), chance, lead=lambda row: SURE if _is_letter(words[row]) else -SURE),
    }
    for layer in range(size.layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            tensors[f"{block}{norm}.weight"] = ((width,), array("f", [1.0] * width))
        for part in ("attn_q", "attn_k", "attn_v"):
            tensors[f"{block}{part}.weight"] = _matrix(width, width, chance)
        tensors[f"{block}attn_output.weight"] = _matrix(width, width, chance, silent=0)
        for part in ("ffn_gate", "ffn_up"):
            tensors[f"{block}{part}.weight"] = _matrix(width, size.inner, chance)
        tensors[f"{block}ffn_down.weight"] = _matrix(size.inner, width, chance, silent=0)
    return tensors


def _is_letter(word: tuple[str, int, float]) -> bool:
    return word[0] in LETTERS


def _matrix(
    columns: int,
    rows: int,
    chance: random.Random,
    lead: Callable[[int], float] | None = None,
    silent: int | None = None,
) -> Tensor:
    """Random rows; `lead` gives each one's first number, and row `silent` is all zeros."""
    spread = columns**-0.5
    values = array("f")
    for row in range(rows):
        numbers = [0.0] * columns if row == silent else [chance.gauss(0, spread) for _ in range(columns)]
        if lead is not None:
            numbers[0] = lead(row)
        values.extend(numbers)
    return (columns, rows), values


def _pack(typed: Typed) -> bytes:
    if isinstance(typed.value, list):
        head = struct.pack("<IIQ", ARRAY, typed.kind, len(typed.value))
        return head + b"".join(_pack_one(typed.kind, each) for each in typed.value)
    return struct.pack("<I", typed.kind) + _pack_one(typed.kind, typed.value)


def _pack_one(kind: int, value: object) -> bytes:
    if kind == STRING:
        return _pack_string(str(value))
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f"}[kind], value)


def _pack_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(size: int) -> int:
    return size + -size % ALIGNMENT
