"""The tokens of answers of any size, API and form in the request log, and that no answer suffers from it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.request_log import QUICK, read_lines
from support.stack import Stack, node
from support.witness import Heard, Witness, whole
from weighbridge_operator.xds.request_log import RequestLog

pytestmark = pytest.mark.envoy
MIB = 2**20
USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
OPENAI, ANTHROPIC, GEMINI = "/v1/chat/completions", "/v1/messages", "/v1beta/models/g:"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


async def large(heard: Heard, writer: asyncio.StreamWriter) -> None:
    """As many MiB as the request says, in one piece or in chunks."""
    size, form = heard.header("x-form")[0].split()
    body = json.dumps({"data": "a" * (int(size) * MIB), **USAGE}).encode()
    if form == "length":
        writer.write(whole(200, body))
        return
    writer.write(CHUNKED % b"application/json")
    for at in range(0, len(body), MIB):
        writer.write(chunk(body[at : at + MIB]))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize("form", ["length", "chunks"])
async def test_an_answer_may_have_any_size(tmp_path: Path, form: str) -> None:
    log = tmp_path / "requests"
    models = [{"name": "m", "types": ["text", "embedding", "image"]}]
    async with (
        Witness(large) as witness,
        Stack(node("a", witness.port, models=models), requests=RequestLog(str(log), True), arguments=QUICK) as stack,
        aiohttp.ClientSession() as http,
    ):
        asked = [(OPENAI, 15), (OPENAI, 17), ("/v1/embeddings", 40), ("/v1/images/generations", 30)]
        for path, size in asked:
            heads = {"x-form": f"{size} {form}"}
            async with http.post(stack.url + path, json={"model": "m"}, headers=heads) as answer:
                assert (answer.status, (await answer.json())["usage"]) == (200, USAGE["usage"])
        lines = await read_lines(log, len(asked))
        assert [(line["tokens_in"], line["tokens_out"]) for line in lines] == [(7, 3)] * len(asked)
        assert len(witness.heard) == len(asked)
        async with http.head(f"{stack.url}/v1/models") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        ran, failed = [await stack.envoys[0].stat(f"http.entrance.lua.{what}") for what in ("executions", "errors")]
        assert (ran >= len(asked), failed) == (True, 0)


def gemini(answer: int, thoughts: int) -> dict[str, Any]:
    told = {"promptTokenCount": 7, "candidatesTokenCount": answer, "thoughtsTokenCount": thoughts}
    return {"candidates": [{"content": {"parts": [{"text": "hi"}]}}], "usageMetadata": told, "modelVersion": "g"}


def events(*datas: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(data).encode() + b"\n\n" for data in datas)


STARTED = {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}
ANSWERS: dict[str, tuple[bytes, bytes, tuple[int, int]]] = {
    GEMINI + "generateContent": (b"application/json", json.dumps(gemini(3, 2)).encode(), (7, 5)),
    GEMINI + "streamGenerateContent?alt=sse": (b"text/event-stream", events(gemini(1, 2), gemini(3, 2)), (7, 5)),
    GEMINI + "streamGenerateContent": (b"application/json", json.dumps([gemini(1, 2), gemini(3, 2)]).encode(), (7, 5)),
    ANTHROPIC: (
        b"text/event-stream",
        events(STARTED, *[{"type": "ping", "filling": "a" * 500}] * 100, {"usage": {"output_tokens": 3}}),
        (7, 3),
    ),
}


async def test_every_api_tells_them_whole_and_streamed(tmp_path: Path) -> None:
    log = tmp_path / "requests"

    async def told(heard: Heard, writer: asyncio.StreamWriter) -> None:
        kind, body, _ = ANSWERS[heard.path]
        writer.write(CHUNKED % kind)
        for at in range(0, len(body), 100):
            writer.write(chunk(body[at : at + 100]))
        writer.write(b"0\r\n\r\n")

    async with (
        Witness(told) as witness,
        Stack(
            node("g", witness.port, "g", engine="openai", format="gemini"),
            node("c", witness.port, "c", engine="openai", format="anthropic"),
            requests=RequestLog(str(log), True),
            arguments=QUICK,
        ) as stack,
        aiohttp.ClientSession() as http,
    ):
        for path, (_, body, _) in ANSWERS.items():
            asked = {"stream": True, "model": "c"} if path == ANTHROPIC else {}
            async with http.post(stack.url + path, json=asked) as answer:
                assert await answer.read() == body
        lines = await read_lines(log, len(ANSWERS))
    assert [(line["tokens_in"], line["tokens_out"]) for line in lines] == [told for *_, told in ANSWERS.values()]


async def test_each_part_reaches_the_caller_at_once_and_a_cut_answer_stays_one(tmp_path: Path) -> None:
    log, seen = tmp_path / "requests", asyncio.Event()

    async def in_parts(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED % b"application/json" + chunk(b'{"a":'))
        await asyncio.wait_for(seen.wait(), 10)
        writer.close()

    async with (
        Witness(in_parts) as witness,
        Stack(node("a", witness.port), requests=RequestLog(str(log), True), arguments=QUICK) as stack,
        aiohttp.ClientSession() as http,
        http.post(stack.url + OPENAI, json={"model": "m"}) as answer,
    ):
        assert await answer.content.readany() == b'{"a":'
        seen.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        assert "tokens_in" not in (await read_lines(log, 1))[0]
