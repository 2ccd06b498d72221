"""What simulated nodes say beside chat: each API and each kind of answer, whole and streamed, at an engine's pace."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from weighbridge_simulator.control import Control
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

HI = [{"role": "user", "content": "hello"}]
CONTENT = {"contents": [{"parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 6}}
KEY = "sk-1"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with Fleet([NodeSpec(models=(("m", "m"),), control=Control(slow=0.01), key=KEY)]) as fleet:
        yield f"http://127.0.0.1:{fleet.nodes['node'].port}"


async def post(url: str, body: Any, header: str = "authorization", key: str = f"Bearer {KEY}") -> tuple[int, bytes]:
    form = body if isinstance(body, aiohttp.FormData) else None
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=None if form else body, data=form, headers={header: key}) as answer,
    ):
        return answer.status, await answer.read()


def events(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: {")]


async def test_messages_are_the_same_whole_and_streamed(url: str) -> None:
    asked = {"model": "m", "max_tokens": 9, "messages": HI}
    status, whole = await post(f"{url}/v1/messages", asked, "x-api-key", KEY)
    told = json.loads(whole)
    assert (status, told["stop_reason"], told["usage"]["output_tokens"]) == (200, "max_tokens", 9)
    _, stream = await post(f"{url}/v1/messages", {**asked, "stream": True}, "x-api-key", KEY)
    pieces = [one["delta"]["text"] for one in events(stream) if one["type"] == "content_block_delta"]
    assert "".join(pieces) == told["content"][0]["text"]
    assert [one["type"] for one in events(stream)][-2:] == ["message_delta", "message_stop"]
    status, refused = await post(f"{url}/v1/messages", asked)
    assert (status, json.loads(refused)["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize("base", ["/v1beta", "/v1"])
async def test_contents_are_the_same_whole_as_events_and_as_a_list(url: str, base: str) -> None:
    path = f"{url}{base}/models/m"
    status, whole = await post(f"{path}:generateContent", CONTENT, "x-goog-api-key", KEY)
    text = json.loads(whole)["candidates"][0]["content"]["parts"][0]["text"]
    assert (status, len(text.split())) == (200, 6)
    _, stream = await post(f"{path}:streamGenerateContent?alt=sse", CONTENT, "x-goog-api-key", KEY)
    _, listed = await post(f"{path}:streamGenerateContent", CONTENT, "x-goog-api-key", KEY)
    for chunks in (events(stream), json.loads(listed)):
        assert "".join(one["candidates"][0]["content"]["parts"][0]["text"] for one in chunks) == text
        assert chunks[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    status, refused = await post(f"{url}{base}/models/x:generateContent", CONTENT, "x-goog-api-key", KEY)
    assert (status, json.loads(refused)["error"]["status"]) == (404, "NOT_FOUND")


async def test_responses_are_the_same_whole_and_streamed(url: str) -> None:
    asked = {"model": "m", "input": "hello", "max_output_tokens": 7}
    _, whole = await post(f"{url}/v1/responses", asked)
    _, stream = await post(f"{url}/v1/responses", {**asked, "stream": True})
    told = events(stream)
    assert [one["sequence_number"] for one in told] == sorted(one["sequence_number"] for one in told)
    assert told[-1]["type"] == "response.completed"
    assert told[-1]["response"]["output"] == [
        {**json.loads(whole)["output"][0], "id": told[-1]["response"]["output"][0]["id"]}
    ]


async def test_images_sound_and_rankings_come_as_they_are_wanted(url: str) -> None:
    _, drawn = await post(f"{url}/v1/images/generations", {"model": "m", "prompt": "x", "n": 3})
    images = [base64.b64decode(one["b64_json"]) for one in json.loads(drawn)["data"]]
    assert len(set(images)) == 3
    assert all(image.startswith(b"\x89PNG") for image in images)
    _, spoken = await post(f"{url}/v1/audio/speech", {"model": "m", "input": "hello", "response_format": "wav"})
    assert (spoken[:4], spoken[8:12]) == (b"RIFF", b"WAVE")
    form = aiohttp.FormData({"model": "m", "response_format": "text"})
    form.add_field("file", b"sound", filename="a.wav")
    status, heard = await post(f"{url}/v1/audio/transcriptions", form)
    assert (status, heard.endswith(b"\n"), len(heard.split())) == (200, True, 64)
    _, ranked = await post(f"{url}/v1/rerank", {"model": "m", "query": "q", "documents": ["a", "b", "c"]})
    scores = [one["relevance_score"] for one in json.loads(ranked)["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("images/generations", {"model": "m"}, "prompt"),
        ("images/generations", {"model": "m", "prompt": "x", "response_format": "gif"}, "response_format"),
        ("audio/speech", {"model": "m", "input": ""}, "input"),
        ("audio/transcriptions", {"model": "m", "file": "x"}, "file"),
        ("rerank", {"model": "m", "query": "q", "documents": []}, "documents"),
        ("rerank", {"model": "m", "documents": ["a"]}, "query"),
        ("responses", {"model": "m", "input": []}, "input"),
        ("responses", {"input": "x"}, "model"),
    ],
)
async def test_what_makes_no_sense_is_refused(url: str, path: str, body: dict[str, Any], param: str) -> None:
    status, told = await post(f"{url}/v1/{path}", body)
    assert (status, json.loads(told)["error"]["param"]) == (400, param)


async def test_tokens_are_counted_as_they_are_then_used(url: str) -> None:
    asked = {"model": "m", "messages": HI}
    status, counted = await post(f"{url}/v1/messages/count_tokens", asked, "x-api-key", KEY)
    _, whole = await post(f"{url}/v1/messages", {**asked, "max_tokens": 1}, "x-api-key", KEY)
    assert (status, json.loads(counted)["input_tokens"]) == (200, json.loads(whole)["usage"]["input_tokens"])
    status, counted = await post(f"{url}/v1beta/models/m:countTokens", CONTENT, "x-goog-api-key", KEY)
    _, whole = await post(f"{url}/v1beta/models/m:generateContent", CONTENT, "x-goog-api-key", KEY)
    assert (status, json.loads(counted)["totalTokens"]) == (200, json.loads(whole)["usageMetadata"]["promptTokenCount"])
    status, refused = await post(f"{url}/v1/messages/count_tokens", {**asked, "model": "x"}, "x-api-key", KEY)
    assert (status, json.loads(refused)["error"]["type"]) == (404, "not_found_error")
