"""The tokens that answers tell, as the script reads them in LuaJIT, held to Python's json, however they are cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from weighbridge_operator.xds.scripts import write_tokens

#: What Envoy gives the script, as far as it asks for it. `parts` is an answer, cut, in a list of Python's.
HANDLE = b"""
function pass(kind, encoding, parts, count)
  local heads, told = { ["content-type"] = kind, ["content-encoding"] = encoding }, {}
  local set = function(_, space, name, value)
    assert(space == "weighbridge.asked" and name == "answer")
    told = value
  end
  envoy_on_response({
    headers = function() return { get = function(_, name) return heads[name] end } end,
    streamInfo = function() return { dynamicMetadata = function() return { set = set } end } end,
    bodyChunks = function()
      local number = -1
      return function()
        number = number + 1
        if number >= count then return nil end
        local text = parts[number]
        return {
          length = function() return #text end,
          getBytes = function(_, first, size)
            assert(first >= 0 and first + size <= #text)
            return string.sub(text, first + 1, first + size)
          end,
        }
      end
    end,
  })
  return told.tokens_in, told.tokens_out
end
"""
JSON, EVENTS = b"application/json", b"text/event-stream"
Tokens = tuple[float | None, float | None]


@pytest.fixture(scope="module")
def lua() -> Any:
    runtime = LuaRuntime(encoding=None)
    runtime.execute(write_tokens().encode())
    runtime.execute(HANDLE)
    return runtime.globals()[b"pass"]


def read(
    lua: Any, text: bytes, kind: bytes = JSON, cuts: tuple[int, ...] = (), encoding: bytes | None = None
) -> Tokens:
    ends = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    parts = [text[first:last] for first, last in itertools.pairwise(ends)]
    return tuple(lua(kind, encoding, parts, len(parts)))  # type: ignore[return-value]


OPENAI = {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
DETAILS = {"cached_tokens": 1, "input_tokens": 99, "output_tokens": 98}
WHOLE: dict[str, tuple[Any, Tokens]] = {
    "openai": ({"id": "1", "choices": [{"message": {"content": "hi"}}], **OPENAI, "prompt_logprobs": None}, (7, 3)),
    "embeddings": ({"data": [{"embedding": [0.25] * 9000}], "usage": {"prompt_tokens": 7}}, (7, None)),
    "details": (
        {"usage": {"input_tokens_details": DETAILS, "output_tokens": 3, "input_tokens": 7}, "user": "a"},
        (7, 3),
    ),
    "anthropic": ({"content": [], "usage": {"input_tokens": 7, "iterations": [DETAILS], "output_tokens": 3}}, (7, 3)),
    "gemini": (
        {
            "candidates": [],
            "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3, "thoughtsTokenCount": 2},
        },
        (7, 5),
    ),
    "gemini thinks": ({"usageMetadata": {"promptTokenCount": 7, "thoughtsTokenCount": 2}, "responseId": "a"}, (7, 2)),
    "gemini list": ([{"a": 1}, {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}}], (7, 3)),
    "rerank": ({"id": "1", "usage": {"prompt_tokens": 7}, "results": [{"document": "word " * 9000}]}, (7, None)),
    "said": ({"choices": [{"content": json.dumps(OPENAI)}]}, (None, None)),
    "said deeper": ({"content": [{"input": OPENAI}]}, (None, None)),
    "in a schema": ({"text": {"usage": {"input_tokens": 1}}, "tools": [OPENAI]}, (None, None)),
    "said at length": ({"text": OPENAI, "a": "b" * 70_000, "c": [OPENAI]}, (None, None)),
    "no numbers": ({"usage": {"prompt_tokens": "7", "completion_tokens": -3, "input_tokens": 10**20}}, (None, None)),
    "null": ({"usage": None}, (None, None)),
    "another": ({"usageMeta": {"prompt_tokens": 1}, "usages": {"prompt_tokens": 1}}, (None, None)),
}
CUTS = st.lists(st.integers(0, 100_000), max_size=40).map(tuple)
SPELLINGS: list[dict[str, Any]] = [{}, {"indent": 2}, {"separators": (",", ":")}]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer(lua: Any, name: str) -> None:
    answer, tokens = WHOLE[name]
    for spelling in SPELLINGS:
        text = json.dumps(answer, **spelling).encode()
        assert read(lua, text) == tokens
        assert read(lua, text, cuts=tuple(range(0, len(text), 997))) == tokens


@given(name=st.sampled_from(sorted(WHOLE)), cuts=CUTS, filling=st.text(max_size=20), times=st.integers(0, 5000))
def test_however_it_is_cut_and_however_long(
    lua: Any, name: str, cuts: tuple[int, ...], filling: str, times: int
) -> None:
    answer, tokens = WHOLE[name]
    if isinstance(answer, dict) and name != "rerank":
        answer = {"filling": filling * times, **answer}
    assert read(lua, json.dumps(answer).encode(), cuts=cuts) == tokens


def events(*datas: Any) -> bytes:
    return b"".join(b"event: some\ndata: " + json.dumps(data).encode() + b"\n\n" for data in datas)


PARTS = [{"choices": [{"delta": {"content": "word"}}], "usage": None}] * 2000
STARTED = {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}
DELTA = {"type": "content_block_delta", "delta": {"text": '"usage":{"output_tokens":9}}'}}
STREAMS: dict[str, tuple[bytes, Tokens]] = {
    "openai": (events(*PARTS, {"choices": [], **OPENAI}) + b"data: [DONE]\n\n", (7, 3)),
    "openai, each": (events(*({"choices": [], "usage": {"completion_tokens": n}} for n in range(900))), (None, 899)),
    "not asked for": (events(*PARTS) + b"data: [DONE]\n\n", (None, None)),
    "anthropic": (events(STARTED, *[DELTA] * 2000, {"type": "message_delta", "usage": {"output_tokens": 3}}), (7, 3)),
    "anthropic, short": (events(STARTED, DELTA, {"type": "message_delta", "usage": {"output_tokens": 3}}), (7, 3)),
    "responses": (
        events({"type": "response.completed", "response": {"output": "a" * 50_000, **OPENAI, "metadata": {}}, "n": 5}),
        (7, 3),
    ),
    "gemini": (
        events(*({"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": n}} for n in (1, 2, 3))),
        (7, 3),
    ),
    "said": (
        events({"delta": json.dumps(OPENAI)}, {"response": {"tools": [OPENAI], "a": {"b": OPENAI}}}),
        (None, None),
    ),
}


@given(name=st.sampled_from(sorted(STREAMS)), cuts=CUTS, crlf=st.booleans())
def test_a_stream(lua: Any, name: str, cuts: tuple[int, ...], crlf: bool) -> None:
    text, tokens = STREAMS[name]
    text = text.replace(b"\n", b"\r\n") if crlf else text
    assert read(lua, text, EVENTS + b"; charset=utf-8", cuts) == tokens
    assert read(lua, text, EVENTS, tuple(range(0, len(text), 61))) == tokens


def test_other_answers_are_not_looked_at(lua: Any) -> None:
    text = json.dumps(OPENAI).encode()
    assert read(lua, text, b"audio/wav") == (None, None)
    assert read(lua, text, JSON, encoding=b"gzip") == (None, None)
    assert read(lua, b"") == (None, None)


@given(
    text=st.lists(
        st.sampled_from([b'"usage"', b":", b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b'"prompt_tokens":1,']),
        max_size=60,
    )
)
def test_no_text_breaks_it(lua: Any, text: list[bytes]) -> None:
    for kind in (JSON, EVENTS):
        read(lua, b"".join(text), kind)
