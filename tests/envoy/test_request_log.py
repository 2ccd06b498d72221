"""The request log on the real Envoy: what stands in a line, what never does, and that no request waits for it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from support.envoy import free_port
from support.request_log import QUICK, read_lines
from support.stack import Stack, node, policy, secret
from weighbridge_operator.xds.request_log import FIELDS, RequestLog
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "SECRET-PROMPT"}]
LONGEST = 1500  # bytes of a line


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    specs = [NodeSpec(name=name, models=(("m", "m"), ("e", "e")), zero=True) for name in "ab"]
    async with Fleet(specs) as fleet:
        yield fleet


def serve(fleet: Fleet) -> list[dict[str, Any]]:
    models = [{"name": "m"}, {"name": "e", "types": ["embedding"]}]
    return [node(name, one.port, models=models) for name, one in fleet.nodes.items()]


async def post(stack: Stack, path: str = CHAT, **body: Any) -> int:
    async with aiohttp.ClientSession() as http, http.post(stack.url + path, json=body) as answer:
        await answer.read()
        return answer.status


async def test_a_line_says_who_asked_for_what_and_how_it_went(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "requests"
    objects = [*serve(fleet), policy("chat", match={"models": ["m"]}), secret("callers", bob="sk-SECRET-KEY")]
    async with Stack(*objects, keys="callers", requests=RequestLog(str(log)), arguments=QUICK) as stack:
        ask = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="sk-SECRET-KEY", max_retries=0)
        whole = await ask.chat.completions.with_raw_response.create(model="m", messages=HI)
        async for _ in await ask.chat.completions.create(model="m", messages=HI, stream=True):
            pass
        await ask.embeddings.create(model="e", input="SECRET-PROMPT")
        with pytest.raises(openai.NotFoundError):
            await ask.chat.completions.create(model="gpt-9", messages=HI)
        await ask.models.list()
        with pytest.raises(openai.AuthenticationError):
            await ask.with_options(api_key="sk-SECRET-OTHER").models.list()
        first, *others = await read_lines(log, 6)
    check_first(first)
    assert first["id"] == whole.headers["x-request-id"]
    assert first["node"] == whole.headers["x-weighbridge-node"]
    assert first["endpoint"] == f"127.0.0.1:{fleet.nodes[first['node']].port}"
    check_others(*others)
    assert "SECRET" not in log.read_text()


def check_first(first: dict[str, Any]) -> None:
    assert set(first) == {*FIELDS, "caller"}
    assert first["v"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    named = {key: first[key] for key in ("type", "stream", "model", "policy", "caller", "status", "flags", "attempts")}
    assert named == {
        "type": "text",
        "stream": False,
        "model": "m",
        "policy": "default/chat",
        "caller": "bob",
        "status": 200,
        "flags": "-",
        "attempts": 1,
    }
    assert first["details"] == "via_upstream"
    assert first["bytes_in"] > 40 < first["bytes_out"]
    assert 0 <= first["first_byte_ms"] <= first["first_data_ms"] <= first["duration_ms"] < 10_000


def check_others(
    stream: dict[str, Any],
    embedding: dict[str, Any],
    unknown: dict[str, Any],
    listed: dict[str, Any],
    stranger: dict[str, Any],
) -> None:
    assert (stream["stream"], stream["model"], stream["caller"]) == (True, "m", "bob")
    assert (embedding["type"], embedding["model"], "policy" in embedding) == ("embedding", "e", False)
    assert (unknown["status"], unknown["model"], unknown["type"], unknown["caller"]) == (404, "gpt-9", "text", "bob")
    assert "node" not in unknown
    assert (listed["status"], listed["caller"], "model" in listed) == (200, "bob", False)
    assert (stranger["status"], stranger["details"], "caller" in stranger) == (401, "unknown_api_key", False)


#: What a caller may try to write into the log by the name of a model.
NAMES = [
    'a","status":200,"x":"',
    "a\nb",
    'a\r\n{"v":1}\n',
    "a\u2028b",
    "a\\",
    "\x00",
    "SECRET " * 5,
    "%REQ(authorization)%",
    "ü" * 50,
    "n" * 399,
    "n" * 100_000,
    "",
]


async def test_nothing_that_a_caller_sends_breaks_a_line_or_gets_into_it(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "requests"
    told = {"x-request-id": "SECRET", "user-agent": "SECRET", "x-weighbridge-client": "SECRET", "referer": "SECRET"}
    told |= {"x-forwarded-for": "6.6.6.6", "x-weighbridge-policy": "SECRET", "cookie": "SECRET", "x-api-key": "SECRET"}
    async with Stack(*serve(fleet), requests=RequestLog(str(log)), arguments=QUICK) as stack:
        async with aiohttp.ClientSession(headers=told) as http:
            for name in NAMES:
                body = {"model": name, "messages": HI}
                async with http.post(f"{stack.url}{CHAT}?key=SECRET", json=body) as answer:
                    assert answer.status in (400, 404), name
            for path in ("/SECRET%0a{}", "/v1/models/SECRET", f"/v1/{'SECRET' * 500}"):
                async with http.get(stack.url + path) as answer:
                    assert answer.status == 404
            async with http.post(stack.url + CHAT, data=b'{"SECRET"', headers={"content-type": "a/SECRET"}) as answer:
                assert answer.status == 415
        lines = await read_lines(log, len(NAMES) + 4)
        await broken_http(stack.port)
        assert (await read_lines(log, len(NAMES) + 5))[-1]["status"] == 400
    text = log.read_text()
    assert "SECRET" not in text
    assert "6.6.6.6" not in text
    assert max(map(len, text.splitlines())) < LONGEST
    assert all(set(line) <= {*FIELDS} and line["v"] == 1 for line in lines)
    asked = [line.get("model") for line in lines[: len(NAMES)]]
    # An empty name is refused as none at all.
    assert asked == [*["?"] * 9, "n" * 399, "?", None]


async def broken_http(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nSECRET SECRET\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_tries_and_failures_are_told(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "requests"
    # One that nobody checks, and one whose check fails.
    dead = [node("dead", free_port(), "d", engine="openai"), node("ill", free_port(), "i"), *serve(fleet)]
    async with Stack(*dead, requests=RequestLog(str(log)), arguments=QUICK) as stack:
        assert await post(stack, model="d", messages=HI) == 503
        assert await post(stack, model="i", messages=HI) == 503
        fleet.nodes["a"].control({"fail": {"status": 503}})
        statuses = [await post(stack, model="m", messages=HI) for _ in range(6)]
        assert statuses == [200] * 6
        failed, nobody, *served = await read_lines(log, 8)
    assert (failed["status"], failed["model"], failed["node"], failed["attempts"]) == (503, "d", "dead", 3)
    assert set(failed["flags"].split(",")) == {"UF", "URX"}
    assert (nobody["status"], nobody["flags"], nobody["attempts"], "node" in nobody) == (503, "UH", 1, False)
    assert {line["node"] for line in served} == {"b"}
    assert max(line["attempts"] for line in served) == 2


JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
#: Requests that are refused before their model is known: how they are asked and answered, their type and format.
REFUSED: tuple[tuple[str, str, dict[str, str], bytes, int, tuple[str | None, str | None]], ...] = (
    ("POST", CHAT, JSON, b"{", 400, ("text", "openai")),
    ("POST", f"{CHAT}?a=b", JSON, b"{", 400, ("text", "openai")),
    ("POST", CHAT, {"content-type": "text/plain"}, b"{}", 415, ("text", "openai")),
    ("POST", CHAT, JSON, b" " * (2**24 + 1), 413, ("text", "openai")),
    ("GET", CHAT, {}, b"", 405, ("text", "openai")),
    ("POST", "/v1/embeddings", JSON, b"[]", 400, ("embedding", "openai")),
    ("POST", "/v1/audio/transcriptions", FORM, b"", 400, ("audio", "openai")),
    ("POST", "/v1/messages", JSON, b"{", 400, ("text", "anthropic")),
    ("POST", "/v1beta/models/m:generateContent", JSON, b"{", 400, ("text", "gemini")),
    ("GET", "/v1/nothing", {}, b"", 404, (None, None)),
)


async def test_what_is_refused_has_the_type_and_format_of_its_path(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "requests"
    async with Stack(*serve(fleet), requests=RequestLog(str(log)), arguments=QUICK) as stack:
        async with aiohttp.ClientSession() as http:
            for method, path, heads, body, status, _ in REFUSED:
                async with http.request(method, stack.url + path, headers=heads, data=body) as answer:
                    assert answer.status == status, path
        lines = await read_lines(log, len(REFUSED))
        counted = await stack.envoys[0].admin("/stats/prometheus?filter=requests_total")
    assert [(line.get("type"), line.get("format")) for line in lines] == [facts for *_, facts in REFUSED]
    assert not [line for line in lines if "stream" in line or "model" in line]
    # No path has a series of its own.
    known = {"text", "embedding", "audio", "anthropic.text", "gemini.text"}
    assert set(re.findall(r'route="([^"]*)"', counted)) - {"", "-"} == known


async def test_tokens_are_told_where_they_are_asked_for_and_known(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "requests"
    async with Stack(*serve(fleet), requests=RequestLog(str(log), tokens=True), arguments=QUICK) as stack:
        ask = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0)
        whole = await ask.chat.completions.create(model="m", messages=HI, max_tokens=7)
        for more in ({"stream_options": {"include_usage": True}}, {}):
            async for _ in await ask.chat.completions.create(
                model="m", messages=HI, max_tokens=7, stream=True, extra_body=more
            ):
                pass
        await ask.embeddings.create(model="e", input="hello")
        first, second, third, embedding = await read_lines(log, 4)
    assert whole.usage is not None
    assert (first["tokens_in"], first["tokens_out"]) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    assert (second["tokens_in"], second["tokens_out"]) == (first["tokens_in"], first["tokens_out"])
    assert "tokens_in" not in third  # the client did not ask for usage, so that nobody told it
    assert embedding["tokens_in"] > 0


class Hasty(Stack):
    """Says soon that Envoy does not take what it was offered."""

    async def settle(self, limit: float = 2.0) -> None:
        await super().settle(limit)


async def test_a_file_that_envoy_cannot_open_is_a_refusal_that_names_it(fleet: Fleet) -> None:
    with pytest.raises(AssertionError, match="unable to open file '/nowhere/requests'"):
        async with Hasty(*serve(fleet), requests=RequestLog("/nowhere/requests")):
            pass


async def test_a_full_disk_costs_lines_and_no_request(fleet: Fleet) -> None:
    async with Stack(*serve(fleet), requests=RequestLog("/dev/full"), arguments=QUICK) as stack:
        for _ in range(3):
            assert [await post(stack, model="m", messages=HI) for _ in range(50)] == [200] * 50
            await asyncio.sleep(0.1)
        assert await stack.envoys[0].stat("filesystem.write_failed") > 0
        assert await stack.envoys[0].stat("filesystem.write_total_buffered") < 100_000


async def test_a_reader_that_stands_still_holds_up_no_request(fleet: Fleet, tmp_path: Path) -> None:
    """A pipe that is full: what Envoy's standard output is in a pod whose log nobody takes."""
    place, count = tmp_path / "pipe", 400
    os.mkfifo(place)
    reader = os.open(place, os.O_RDWR | os.O_NONBLOCK)
    try:
        async with Stack(*serve(fleet), requests=RequestLog(str(place)), arguments=QUICK) as stack:
            assert [await post(stack, model="m", messages=HI) for _ in range(count)] == [200] * count
            assert await stack.envoys[0].stat("filesystem.write_total_buffered") > 0
            text = b""
            async with asyncio.timeout(20):
                while text.count(b"\n") < count:
                    try:
                        text += os.read(reader, 2**16)
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
            assert {line[-1:] for line in text.splitlines()} == {b"}"}
    finally:
        os.close(reader)
