"""Gateways before gateways: a chain serves, and one that leads back ends a request at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import openai
import pytest

from support.stack import Stack, node
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def ask(stack: Stack, path: str = CHAT, hops: str | None = None) -> tuple[int, Any]:
    headers = {"x-weighbridge-hops": hops} if hops else {}
    async with aiohttp.ClientSession() as http, http.post(stack.url + path, json=BODY, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


def gateway(at: Stack, **spec: Any) -> dict[str, Any]:
    """A node that is another gateway."""
    return node("gateway", at.port, engine="openai", health={"path": "/v1/models", "interval": "1s"}, **spec)


async def test_two_gateways_that_point_at_each_other_end_a_request_and_say_what_to_mend() -> None:
    first, second = Stack(name="first"), Stack(name="second")
    first._objects = (gateway(second),)
    second._objects = (gateway(first),)
    async with first, second:
        while (await ask(first, hops="a,b,c,d,e"))[0] == 503:  # noqa: ASYNC110  its node was not there when it began
            await asyncio.sleep(0.1)
        before = [await requests_of(stack) for stack in (first, second)]
        async with openai.AsyncOpenAI(base_url=f"{first.url}/v1", api_key="unused", max_retries=0) as client:
            began = time.monotonic()
            with pytest.raises(openai.InternalServerError) as refused:
                await client.chat.completions.create(model="m", messages=BODY["messages"])  # type: ignore[arg-type]
        assert time.monotonic() - began < 5
        assert (refused.value.status_code, refused.value.code) == (508, "loop_detected")
        assert "ModelNode" in refused.value.message
        came = [await requests_of(stack) for stack in (first, second)]
        assert [after - was for after, was in zip(came, before, strict=True)] == [2, 1]


async def requests_of(stack: Stack) -> int:
    """That the entrance refused."""
    return await stack.envoys[0].stat("http.entrance.downstream_rq_5xx")


async def test_a_chain_of_gateways_serves() -> None:
    async with Fleet([NodeSpec(name="a", zero=True)]) as fleet:
        served = [{"name": "m", "servedAs": "sim"}]
        async with (
            Stack(node("a", fleet.nodes["a"].port, models=served), name="last") as last,
            Stack(gateway(last), name="middle") as middle,
            Stack(gateway(middle), name="first") as first,
        ):
            status, answer = await ask(first)
            assert (status, answer["choices"][0]["message"]["role"]) == (200, "assistant")


PASSED = ("a", "a, b,c,d,e", "weighbridge2,weigh", ",;=")
REFUSED = ("a,b,c,d,e,f", "weighbridge", "a, weighbridge")
PATHS = {
    f"{CHAT}?a=b": ("type", "api_error"),
    "/v1/audio/transcriptions": ("type", "api_error"),
    "/v1/messages": ("type", "api_error"),
    "/v1beta/models/m:generateContent": ("status", "INTERNAL"),
    "/v1/nothing": ("type", "api_error"),
}


async def test_hops_are_looked_through_and_counted_and_what_is_refused_is_told_in_each_api() -> None:
    async with Fleet([NodeSpec(name="a", zero=True)]) as fleet:
        served = [{"name": "m", "servedAs": "sim"}]
        async with Stack(node("a", fleet.nodes["a"].port, models=served)) as stack:
            assert {hops: (await ask(stack, hops=hops))[0] for hops in PASSED} == dict.fromkeys(PASSED, 200)
            assert {hops: (await ask(stack, hops=hops))[0] for hops in REFUSED} == dict.fromkeys(REFUSED, 508)
            for path, (key, value) in PATHS.items():
                status, told = await ask(stack, path, hops="weighbridge")
                assert (path, status, told["error"][key]) == (path, 508, value)
                assert "ModelNode" in told["error"]["message"]
