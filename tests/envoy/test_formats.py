"""Nodes that speak Anthropic's or Gemini's API: own paths alone, their own key, and errors in that API's shape."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import openai
import pytest
from yarl import URL

from support.stack import Stack, node, policy, secret
from support.witness import Witness, status
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
KEY, CALLER = "sk-provider-0123456789", "sk-callers-own"
HI = [{"role": "user", "content": "hi"}]
MESSAGE = {"model": "c", "max_tokens": 20, "messages": HI}
CONTENT = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
GENERATE, STREAM = "/v1beta/models/g:generateContent", "/v1beta/models/g:streamGenerateContent?alt=sse"


async def post(stack: Stack, path: str, body: Any, **headers: str) -> tuple[int, str]:
    named = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    async with (
        aiohttp.ClientSession() as http,
        http.post(URL(stack.url + path, encoded=True), data=data, headers=named) as answer,
    ):
        return answer.status, await answer.text()


def speak(name: str, port: int, api: str, model: str, **spec: Any) -> dict[str, Any]:
    spec = {"engine": "openai", "format": api, "models": [{"name": model, "servedAs": f"own-{model}"}]} | spec
    return node(name, port, **spec)


async def test_each_api_reaches_the_nodes_that_speak_it_with_their_own_key() -> None:
    specs = [
        NodeSpec(name="claude", models=(("own-c", "c"),), key=KEY, zero=True),
        NodeSpec(name="gemini", models=(("own-g", "g"),), key=KEY, zero=True),
        NodeSpec(name="chat", models=(("c", "c"), ("g", "g")), zero=True),
    ]
    async with Fleet(specs) as fleet:
        ports = {name: one.port for name, one in fleet.nodes.items()}
        keyed = {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}}
        objects = [
            speak("claude", ports["claude"], "anthropic", "c", **keyed),
            speak("gemini", ports["gemini"], "gemini", "g", **keyed),
            node("chat", ports["chat"], models=[{"name": "c"}, {"name": "g"}]),
            secret("provider", apiKey=KEY),
            secret("callers", alice=CALLER),
        ]
        async with Stack(*objects, keys="callers") as stack:
            answered, told = await post(stack, "/v1/messages", MESSAGE, x_api_key=CALLER)
            assert (answered, json.loads(told)["type"], json.loads(told)["model"]) == (200, "message", "own-c"), told
            answered, told = await post(stack, "/v1/messages", {**MESSAGE, "stream": True}, x_api_key=CALLER)
            assert (answered, told.count("event: message_stop")) == (200, 1), told
            for path, headers in (
                (GENERATE, {"x_goog_api_key": CALLER}),
                (f"{GENERATE}?key={CALLER}", {}),
                (f"{GENERATE}?a=b&key={CALLER}&%6bey=other", {}),
                ("/v1/models/%67:generateContent", {"authorization": f"Bearer {CALLER}"}),
            ):
                answered, told = await post(stack, path, CONTENT, **headers)
                assert (answered, json.loads(told)["modelVersion"]) == (200, "own-g"), told
            answered, told = await post(stack, STREAM, CONTENT, x_goog_api_key=CALLER)
            assert (answered, told.count('"finishReason"')) == (200, 1), told
            async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=CALLER, max_retries=0) as ask:
                for model in "cg":
                    whole = await ask.chat.completions.create(model=model, messages=HI)  # type: ignore[arg-type]
                    assert whole.model == model


async def test_a_key_in_the_query_of_a_usual_request_reaches_no_node() -> None:
    async with Witness(status(200)) as plain:
        async with Stack(node("plain", plain.port, models=[{"name": "c"}])) as stack:
            chat = {"model": "c", "messages": HI}
            for query in (f"?key={CALLER}", f"?a=b&key={CALLER}", f"?%6bey={CALLER}&a=b", "?a=b"):
                await post(stack, f"/v1/chat/completions{query}", chat)
        paths = [heard.path.removeprefix("/v1/chat/completions") for heard in plain.heard]
        assert paths == ["", "?a=b", "?a=b", "?a=b"]


async def test_a_node_sees_its_own_key_and_nothing_of_the_callers() -> None:
    ok = status(200)
    async with Witness(ok) as claude, Witness(ok) as gemini, Witness(ok) as plain:
        keyed = {"credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}}
        objects = [
            speak("claude", claude.port, "anthropic", "c", **keyed),
            speak("gemini", gemini.port, "gemini", "g", **keyed),
            speak("plain", plain.port, "gemini", "p", models=[{"name": "p"}]),
            secret("provider", apiKey=KEY),
        ]
        async with Stack(*objects) as stack:
            sent = {"x_api_key": CALLER, "x_goog_api_key": CALLER, "authorization": f"Bearer {CALLER}"}
            await post(stack, f"/v1/messages?beta=true&key={CALLER}", MESSAGE, anthropic_version="2023-06-01", **sent)
            await post(stack, f"{GENERATE}?key={CALLER}", {"model": "models/g", **CONTENT}, **sent)
            await post(stack, f"/v1beta/models/p:countTokens?key={CALLER}&$fields=a", CONTENT, **sent)
            (message,), (content,), (count,) = claude.heard, gemini.heard, plain.heard
        assert message.path == "/v1/messages?beta=true"
        assert json.loads(message.body)["model"] == "own-c"
        assert content.path == "/v1beta/models/own-g:generateContent"
        assert json.loads(content.body) == {"model": "models/own-g", **CONTENT}
        assert count.path == "/v1beta/models/p:countTokens?$fields=a"
        assert message.header("anthropic-version") == ["2023-06-01"]
        assert (message.header("x-api-key"), message.header("authorization")) == ([KEY], [])
        assert (content.header("x-goog-api-key"), content.header("authorization")) == ([KEY], [])
        for heard in (message, content, count):
            assert CALLER not in str(heard)


async def test_a_retry_names_the_model_and_the_base_of_the_next_node() -> None:
    async with Witness(status(503)) as bad, Witness(status(200)) as good:
        objects = [
            speak("bad", bad.port, "gemini", "g", address={"host": "127.0.0.1", "port": bad.port, "path": "/a/models"}),
            speak("good", good.port, "gemini", "g", models=[{"name": "g", "servedAs": "x y/z?"}]),
        ]
        async with Stack(*objects) as stack:
            for _ in range(100):
                assert (await post(stack, GENERATE, CONTENT))[0] == 200
                if bad.heard and good.heard:
                    break
        assert {heard.path for heard in bad.heard} == {"/a/models/models/own-g:generateContent"}
        assert {heard.path for heard in good.heard} == {"/v1beta/models/x%20y/z%3F:generateContent"}


ANTHROPIC, GEMINI = "/v1/messages", GENERATE


REFUSED: list[tuple[str, Any, dict[str, str], int, str]] = [
    (ANTHROPIC, b"{", {}, 400, "invalid_request_error"),
    (ANTHROPIC, b'{"model":"m","model":"c"}', {}, 400, "invalid_request_error"),
    (ANTHROPIC, b'{"model":"c","stream":1}', {}, 400, "invalid_request_error"),
    (ANTHROPIC, MESSAGE, {"content_type": "text/plain"}, 415, "invalid_request_error"),
    (ANTHROPIC, {**MESSAGE, "model": "nobody"}, {}, 404, "not_found_error"),
    (ANTHROPIC, {**MESSAGE, "model": "t"}, {}, 404, "not_found_error"),
    (ANTHROPIC, b'{"x":"' + b"a" * (17 << 20) + b'"}', {}, 413, "request_too_large"),
    (ANTHROPIC, {**MESSAGE, "model": "dead"}, {}, 503, "overloaded_error"),
    (GEMINI, b"[]", {}, 400, "INVALID_ARGUMENT"),
    (GEMINI, b'{"model":"other"}', {}, 400, "INVALID_ARGUMENT"),
    (GEMINI, b'{"model":{}}', {}, 400, "INVALID_ARGUMENT"),
    (GEMINI, CONTENT, {"content_encoding": "gzip"}, 415, "INVALID_ARGUMENT"),
    ("/v1beta/models/nobody:generateContent", CONTENT, {}, 404, "NOT_FOUND"),
    ("/v1beta/models/t:generateContent", CONTENT, {}, 404, "NOT_FOUND"),
    ("/v1beta/models/g:embedContent", CONTENT, {}, 404, "NOT_FOUND"),
    ("/v1beta/models", CONTENT, {}, 404, "NOT_FOUND"),
    (GEMINI, b'{"x":"' + b"a" * (17 << 20) + b'"}', {}, 413, "INVALID_ARGUMENT"),
    ("/v1beta/models/dead:generateContent", CONTENT, {}, 503, "UNAVAILABLE"),
]


async def test_errors_have_the_shape_of_the_callers_api() -> None:
    async with Witness() as own:
        objects = [
            speak("claude", own.port, "anthropic", "c"),
            speak("gemini", own.port, "gemini", "g"),
            speak("dead-claude", 9, "anthropic", "dead"),
            speak("dead-gemini", 9, "gemini", "dead"),
            node("text", own.port, "t"),
        ]
        async with Stack(*objects) as stack:
            for path, body, headers, wanted, kind in REFUSED:
                answered, text = await post(stack, path, body, **headers)
                told = json.loads(text)
                assert answered == wanted, text
                error = told["error"]
                assert error["message"]
                if path == ANTHROPIC:
                    assert (told["type"], error["type"]) == ("error", kind), text
                else:
                    assert (error["code"], error["status"]) == (wanted, kind), text
        assert own.heard == []


async def test_a_caller_without_a_key_is_told_where_to_put_it() -> None:
    async with Witness() as own:
        objects = [speak("c", own.port, "anthropic", "c"), speak("g", own.port, "gemini", "g")]
        async with Stack(*objects, secret("callers", alice=CALLER), keys="callers") as stack:
            for path, where, kind in (
                (ANTHROPIC, "x-api-key: KEY", "authentication_error"),
                (GEMINI, "x-goog-api-key: KEY", "UNAUTHENTICATED"),
            ):
                answered, told = await post(stack, path, {})
                assert (answered, where in told, kind in told) == (401, True, True), told
                answered, told = await post(stack, path, {}, x_api_key="sk-wrong")
                assert (answered, "not known" in told, kind in told) == (401, True, True), told
            assert own.heard == []


async def test_a_policy_for_text_speaks_for_every_api_and_a_fallback_stays_within_it() -> None:
    async with Witness(status(200)) as first, Witness(status(200)) as second:
        objects = [
            speak("first", 9, "anthropic", "c"),
            speak("second", second.port, "anthropic", "small"),
            node("chat", first.port, "small"),
            policy("p", match={"types": ["text"]}, fallback=[{"model": "small"}]),
        ]
        async with Stack(*objects) as stack:
            assert (await post(stack, ANTHROPIC, MESSAGE))[0] == 200
            assert [json.loads(heard.body)["model"] for heard in second.heard] == ["own-small"]
            assert first.heard == []
            assert stack.loop.resolved is not None
            assert stack.loop.resolved.findings == ()
