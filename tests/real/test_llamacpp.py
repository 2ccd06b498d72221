"""llama.cpp's own server as a node: its load, weights, streams, failover, names and embeddings, through the gateway."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import APIError, AsyncOpenAI

from support.llamanode import SLOTS, LlamaNode
from support.stack import Stack, node, secret
from weighbridge_metrics.signals import extract
from weighbridge_operator.report import EndpointReport, Report

pytestmark = [pytest.mark.real, pytest.mark.envoy]
Say = Callable[[str], None]
Endpoints = dict[str, EndpointReport]
HELLO = [{"role": "user", "content": "hello"}]


class Pair:
    """Two llama-servers behind one gateway, as model `tiny`."""

    def __init__(self, a: LlamaNode, b: LlamaNode, stack: Stack) -> None:
        self.nodes = {"a": a, "b": b}
        self.stack = stack
        self.ai = AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60)

    async def ask(self, tokens: int = 40) -> str:
        """One whole answer of so many tokens; which node gave it."""
        answer = await self.ai.chat.completions.create(model="tiny", messages=HELLO, max_tokens=tokens)  # type: ignore[arg-type]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == tokens
        assert answer.choices[0].finish_reason == "length"
        return answer.model.removeprefix("tiny-")

    async def until(
        self, true: Callable[[dict[str, EndpointReport]], bool], limit: float = 60
    ) -> dict[str, EndpointReport]:
        """The endpoints by node, of the first report of which it is true."""
        version = 0
        ends: Endpoints = {}
        try:
            async with asyncio.timeout(limit):
                while True:
                    report, version = await self.stack.reporter.reports.wait_newer(version)
                    ends = list_endpoints(report)
                    if ends.keys() == {"a", "b"} and true(ends):
                        return ends
        except TimeoutError:
            raise AssertionError(f"it did not come to that: {ends}") from None


def list_endpoints(report: Report) -> Endpoints:
    return {each.name: endpoint for each in report.objects for endpoint in each.endpoints}


def describe(name: str, llama: LlamaNode, **spec: Any) -> dict[str, Any]:
    models = [{"name": "tiny", "servedAs": llama.alias}]
    return node(name, llama.port, engine="llamacpp", concurrency=SLOTS, models=models, **spec)


@pytest.fixture
async def running(llama_server: Path, model: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts a pair; `capacities` are those of a and b."""
    async with AsyncExitStack() as everything:

        async def start(*capacities: float) -> Pair:
            llamas = [LlamaNode(llama_server, model, f"tiny-{name}") for name in "ab"]
            for llama in llamas:
                await everything.enter_async_context(llama)
            given = [{"capacity": each} for each in capacities] or [{}, {}]
            objects = [describe(n, llama, **c) for n, llama, c in zip("ab", llamas, given, strict=True)]
            pair = Pair(*llamas, await everything.enter_async_context(Stack(*objects)))
            everything.push_async_callback(pair.ai.close)
            await pair.until(lambda ends: all(each.healthy and each.running == 0 for each in ends.values()))
            return pair

        yield start


async def test_its_load_is_read_and_others_requests_lower_its_weight(running: Callable[..., Any], say: Say) -> None:
    pair = await running()
    async with pair.nodes["a"].flooded(requests=10, tokens=3000):
        full = await pair.until(lambda ends: ends["a"].running == SLOTS and (ends["a"].waiting or 0) >= 5)
        assert full["b"].running == full["b"].waiting == 0
        assert full["a"].kv is None
        assert {part.signal for part in full["a"].parts} == {"queue", "running"}
        assert full["a"].score is not None
        assert full["a"].score > 60
        asking = asyncio.create_task(_ask_steadily(pair))
        try:
            moved = await pair.until(lambda ends: ends["a"].weight < ends["b"].weight)
            assert "others hold" in moved["a"].reason
            served = await _ask_together(pair, clients=4, each=25)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        share = served["a"] / served.total()
    say(f"others' load on a: {moved['a'].reason}; a got {share:.0%} of {served.total()} requests")
    assert share < 0.4
    idle = await pair.until(lambda ends: ends["a"].running == 0)
    assert idle["a"].waiting == 0


async def _ask_steadily(pair: Pair) -> None:
    """About ten requests a second, whole answers."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(pair.ask())
            await asyncio.sleep(0.1)


async def _ask_together(pair: Pair, clients: int, each: int, tokens: int = 40) -> Counter[str]:
    """How many of so many requests which node served."""
    served: Counter[str] = Counter()

    async def client() -> None:
        for _ in range(each):
            served[await pair.ask(tokens)] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return served


async def _count_inside(pair: Pair, until: asyncio.Task[Any]) -> Counter[str]:
    """Requests inside each node by its own account, added up over looks at both."""
    inside: Counter[str] = Counter()
    while not until.done():
        for name, llama in pair.nodes.items():
            sample, _ = extract(name, "llamacpp", [await llama.page()], {}, 0.0)
            inside[name] += int((sample.running or 0) + (sample.waiting or 0))
        await asyncio.sleep(0.1)
    return inside


async def test_requests_lie_on_it_in_proportion_to_the_capacities(running: Callable[..., Any], say: Say) -> None:
    pair = await running(2, 1)
    ends = await pair.until(lambda ends: ends["a"].weight == 4 * ends["b"].weight)
    asking = asyncio.create_task(_ask_together(pair, clients=6, each=40, tokens=200))
    inside = await _count_inside(pair, asking)
    served = await asking
    share = inside["a"] / inside.total()
    # Not of the requests: both run on one machine, so that each answers about half of them, whatever lies there.
    told = f"weights {ends['a'].weight}:{ends['b'].weight}, {share:.0%} of the requests in flight lay on a"
    say(f"capacity 2:1: {told}; it answered {served['a']} of {served.total()}")
    assert 0.57 < share < 0.87


async def test_a_stream_comes_token_by_token_with_its_usage(running: Callable[..., Any], say: Say) -> None:
    pair = await running()
    stream = await pair.ai.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=100,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert len(text) == 100
    assert text.isalpha()
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) >= 90
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 100
    say(f"a stream of {chunks[-1].usage.completion_tokens} tokens came in {len(chunks)} chunks")


async def test_a_kill_loses_no_request_that_was_not_answered(running: Callable[..., Any], say: Say) -> None:
    """F5: one of two is killed with -9 under traffic, and comes back."""
    pair = await running()
    served: Counter[str] = Counter()
    lost: list[str] = []

    async def one() -> None:
        try:
            served[await pair.ask(60)] += 1
        except (APIError, AssertionError) as error:
            lost.append(repr(error))

    async with asyncio.TaskGroup() as group:
        for number in range(600):
            group.create_task(one())
            if number == 200:
                await pair.nodes["a"].kill()
            await asyncio.sleep(0.025)
    assert (lost, served.total()) == ([], 600)
    assert served["b"] > 350
    await pair.until(lambda ends: ends["a"].healthy is False)
    await pair.nodes["a"].start()
    await pair.until(lambda ends: ends["a"].healthy is True)
    after: Counter[str] = Counter()
    async with asyncio.timeout(60):
        while not after["a"]:
            after[await pair.ask()] += 1
    say(f"kill -9 of one of two at 40 requests a second: {len(lost)} of 600 lost; it serves again after its return")


async def test_a_stream_that_a_kill_cuts_raises_and_never_ends_as_if_it_were_whole(
    running: Callable[..., Any], say: Say
) -> None:
    pair = await running()
    ends: Counter[str] = Counter()
    begun = asyncio.Semaphore(0)

    async def one() -> None:
        finished = False
        try:
            stream = await pair.ai.chat.completions.create(model="tiny", messages=HELLO, max_tokens=3000, stream=True)  # type: ignore[arg-type]
            async for chunk in stream:
                begun.release()
                finished = finished or bool(chunk.choices and chunk.choices[0].finish_reason)
            ends["whole" if finished else "silent"] += 1
        except Exception as error:
            ends[f"raised {type(error).__name__}"] += 1

    streams = [asyncio.create_task(one()) for _ in range(6)]
    for _ in range(60):
        await begun.acquire()
    await pair.nodes["a"].kill()
    await asyncio.gather(*streams)
    say(f"kill -9 during 6 streams: {dict(ends)}")
    assert ends["silent"] == 0
    assert ends["whole"] >= 1
    assert ends.total() == 6


async def test_embeddings_carry_the_name_that_the_node_knows_and_its_key_opens_its_metrics(
    llama_server: Path, model: Path
) -> None:
    flags = ("--embeddings", "--pooling", "mean", "--api-key", "sk-node")
    async with LlamaNode(llama_server, model, "tiny-embed", *flags) as llama:
        models = [{"name": "embed", "servedAs": "tiny-embed", "types": ["embedding"]}]
        credentials = {"secretRef": {"name": "llama", "key": "key"}}
        described = node("e", llama.port, engine="llamacpp", models=models, credentials=credentials)
        async with (
            Stack(described, secret("llama", key="sk-node")) as stack,
            AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=2) as ai,
        ):
            answer = await ai.embeddings.create(model="embed", input=["one", "two"], encoding_format="float")
            version = 0
            async with asyncio.timeout(20):
                while True:
                    report, version = await stack.reporter.reports.wait_newer(version)
                    told = list_endpoints(report).get("e")
                    if told is not None and told.running == 0:
                        break
    assert answer.model == "tiny-embed"  # llama-server repeats the name that it was asked for
    assert [len(each.embedding) for each in answer.data] == [64, 64]
    assert answer.data[0].embedding != answer.data[1].embedding


async def test_the_other_ways_to_ask_for_text_reach_it_too(llama_server: Path, model: Path) -> None:
    """OpenAI's responses and, where the node is said to speak it, Anthropic's messages: passed on as they are."""
    async with LlamaNode(llama_server, model, "tiny-a") as llama:
        models = [{"name": "tiny", "servedAs": "tiny-a"}]
        openai = node("o", llama.port, engine="llamacpp", models=models)
        anthropic = node("n", llama.port, engine="llamacpp", models=[{"name": "tiny-n"}], format="anthropic")
        async with (
            Stack(openai, anthropic) as stack,
            AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=2) as ai,
            aiohttp.ClientSession() as http,
        ):
            response = await ai.responses.create(model="tiny", input="hello", max_output_tokens=20)
            assert len(response.output_text) == 20
            body = {"model": "tiny-n", "max_tokens": 20, "messages": HELLO}
            async with http.post(f"{stack.url}/v1/messages", json=body) as answer:
                assert answer.status == 200, await answer.text()
                told = await answer.json()
            assert told["type"] == "message"
            assert told["usage"]["output_tokens"] == 20
