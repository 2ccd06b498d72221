"""What a request's head alone decides: the list of models, methods, versions of Gemini's API, announced lengths."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from support.rawhttp import exchange
from support.stack import Stack, node, secret
from support.witness import Witness, status
from weighbridge_operator.xds.paths import BODY_LIMIT, FORM_LIMIT
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy


def serve(port: int) -> list[dict[str, Any]]:
    return [
        node("chat", port, models=[{"name": "m"}, {"name": "org/m"}, {"name": "w", "types": ["audio"]}]),
        node("claude", port, "c", format="anthropic"),
        node("gemini", port, "g", format="gemini"),
    ]


async def ask(stack: Stack, method: str, path: str, **headers: str) -> tuple[int, dict[str, Any], str | None]:
    """Status, the answer, and which methods it says are right."""
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, stack.url + path, data=b"{}" if method == "POST" else None, headers=named) as answer,
    ):
        return answer.status, json.loads(await answer.read() or b"{}"), answer.headers.get("allow")


async def test_a_query_changes_nothing_of_the_list_of_models() -> None:
    async with Witness() as own, Stack(*serve(own.port), secret("callers", alice="sk-1"), keys="callers") as stack:
        key = {"authorization": "Bearer sk-1"}
        for path in ("/v1/models", "/v1/models/m", "/v1/models/org/m", "/v1/models/org%2Fm"):
            plain = await ask(stack, "GET", path, **key)
            assert plain[0] == 200
            for query in ("?", "?limit=20", "?api-version=2024-10-21&x=/v1/models/m", "??"):
                assert await ask(stack, "GET", path + query, **key) == plain
                assert (await ask(stack, "HEAD", path + query, **key))[0] == 200
                assert (await ask(stack, "PUT", path + query, **key))[::2] == (405, "GET, HEAD")
                assert (await ask(stack, "GET", path + query))[0] == 401
        answered, told, _ = await ask(stack, "GET", "/v1/models/nobody?x=1", **key)
        assert (answered, told["error"]["code"]) == (404, "model_not_found")
        assert told["error"]["message"].startswith("The model nobody does not exist")
        assert own.heard == []


async def test_each_api_s_addresses_answer_in_its_shape_and_say_which_method_is_right() -> None:
    async with Witness(status(200)) as own, Stack(*serve(own.port)) as stack:
        for path in ("/v1/messages/batches", "/v1/messages/batches/b/results", "/v1/messages/batches?limit=1"):
            for method in ("GET", "POST"):
                answered, told, _ = await ask(stack, method, path)
                assert (answered, told.get("type"), told["error"]["type"]) == (404, "error", "not_found_error")
        for version in ("v1beta", "v1", "v1alpha"):
            for method in ("generateContent", "streamGenerateContent", "countTokens"):
                path = f"/{version}/models/g:{method}"
                assert (await ask(stack, "POST", path))[0] == 200
                for query in ("", "?alt=sse"):
                    answered, told, allowed = await ask(stack, "GET", path + query)
                    assert (answered, told["error"]["status"], allowed) == (405, "INVALID_ARGUMENT", "POST")
        assert len(own.heard) == 9
        answered, told, _ = await ask(stack, "POST", "/v1alpha/models/g:embedContent")
        assert (answered, told["error"]["status"]) == (404, "NOT_FOUND")
        for version in ("v1foo", "v1betaalpha", "v2", "v1beta1"):
            for method in ("GET", "POST"):
                assert (await ask(stack, method, f"/{version}/models/g:generateContent"))[0] == 404
        assert len(own.heard) == 9


async def test_a_body_that_is_announced_as_too_large_is_refused_at_once() -> None:
    async with (
        Witness(status(200)) as own,
        Stack(*serve(own.port), secret("callers", a="sk-1"), keys="callers") as stack,
    ):
        head = "POST {} HTTP/1.1\r\nHost: a\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}\r\n"
        key, waits = "Authorization: Bearer sk-1\r\n", "Expect: 100-continue\r\n"
        for path, kind, limit, wanted in (
            ("/v1/chat/completions", "application/json", BODY_LIMIT, '"request_too_large"'),
            ("/v1/chat/completions?a=b", "application/json; charset=utf-8", BODY_LIMIT, '"request_too_large"'),
            ("/v1/audio/speech", "application/json", BODY_LIMIT, '"request_too_large"'),
            ("/v1/audio/transcriptions", "multipart/form-data; boundary=b", FORM_LIMIT, '"request_too_large"'),
            ("/v1/messages", "application/json", BODY_LIMIT, '"type":"error"'),
            ("/v1beta/models/g:generateContent", "application/json", BODY_LIMIT, '"INVALID_ARGUMENT"'),
            ("/v1/models/g:generateContent?alt=sse", "application/json", BODY_LIMIT, '"INVALID_ARGUMENT"'),
        ):
            for more in (key, key + waits):
                sent = head.format(path, kind, limit + 1, more)
                told = (await exchange(stack.port, sent.encode())).decode()
                assert "HTTP/1.1 413 " in told, (path, told)
                assert wanted in told
                assert f"The body is larger than {limit >> 20} MiB." in told
            assert await exchange(stack.port, head.format(path, kind, limit, key).encode(), 0.3) == b""
            refused = await exchange(stack.port, head.format(path, kind, limit + 1, "").encode())
            assert b"HTTP/1.1 401 " in refused
        assert own.heard == []


async def test_simulated_nodes_count_tokens_in_both_apis() -> None:
    hi = [{"role": "user", "content": "hello"}]
    async with AsyncExitStack() as running:
        fleet = await running.enter_async_context(Fleet([NodeSpec(models=(("c", "c"), ("g", "g")))]))
        stack = await running.enter_async_context(Stack(*serve(fleet.nodes["node"].port)))
        http = await running.enter_async_context(aiohttp.ClientSession())
        asked: list[tuple[str, Any, str]] = [
            ("/v1/messages/count_tokens", {"model": "c", "messages": hi}, "input_tokens"),
            ("/v1beta/models/g:countTokens", {"contents": [{"parts": [{"text": "hello"}]}]}, "totalTokens"),
        ]
        for path, body, name in asked:
            async with http.post(stack.url + path, json=body) as answer:
                told = await answer.json()
                assert (answer.status, list(told), told[name] > 0) == (200, [name], True), told
