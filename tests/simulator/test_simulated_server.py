"""A simulated node through the official client: shapes, streams, errors, and what happens when a client leaves."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import openai
import pytest

from support.simulated import exchange, post, until
from weighbridge_simulator.control import Control
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.server import NodeServer

QUICK = Control(slow=0.01)
CERTIFICATES = Path(__file__).parents[1] / "sources" / "fixtures"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    specs = [NodeSpec(name=name, models=(("m", "org/m"), ("e", "e")), control=QUICK) for name in ("a", "b")]
    async with Fleet(specs) as fleet:
        yield fleet


@pytest.fixture
async def node(fleet: Fleet) -> NodeServer:
    return fleet.nodes["a"]


Connect = Callable[[NodeServer], openai.AsyncOpenAI]


@pytest.fixture
async def client() -> AsyncIterator[Connect]:
    """Makes official clients, and closes them."""
    async with AsyncExitStack() as stack:

        def connect(node: NodeServer) -> openai.AsyncOpenAI:
            url = f"http://127.0.0.1:{node.port}/v1"
            made = openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0)
            stack.push_async_callback(made.close)
            return made

        yield connect


async def test_a_chat_is_answered_the_same_by_every_node(fleet: Fleet, client: Connect) -> None:
    answers = [
        await client(node).chat.completions.create(model="m", messages=HELLO, max_tokens=9)
        for node in fleet.nodes.values()
    ]
    texts = {answer.choices[0].message.content for answer in answers}
    assert len(texts) == 1
    usage = answers[0].usage
    assert usage is not None
    assert len(texts.pop().split()) == usage.completion_tokens == 9
    assert answers[0].choices[0].finish_reason == "length"


async def test_a_stream_joins_to_the_whole_answer_and_ends_with_usage(node: NodeServer, client: Connect) -> None:
    whole = await client(node).chat.completions.create(model="m", messages=HELLO, max_tokens=20)
    stream = await client(node).chat.completions.create(
        model="m", messages=HELLO, max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize("every", [0, 1, 4])
async def test_tokens_are_written_in_the_chunks_that_were_asked_for(every: int, client: Connect) -> None:
    async with Fleet([NodeSpec(every=every, control=Control(slow=0.5))]) as fleet:
        stream = await client(fleet.nodes["node"]).chat.completions.create(
            model="sim", messages=HELLO, max_tokens=10, stream=True
        )
        pieces = [c.choices[0].delta.content.split() async for c in stream if c.choices[0].delta.content]
    sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == 10
    assert sizes[0] == 1
    if every == 0:
        assert sizes == [1, 9]
    if every == 4:
        assert 3 <= sizes[1] <= 7


async def test_several_choices_are_several_sequences(node: NodeServer, client: Connect) -> None:
    answer = await client(node).chat.completions.create(model="m", messages=HELLO, n=3, max_tokens=4)
    assert len({choice.message.content for choice in answer.choices}) == 3
    stream = await client(node).chat.completions.create(model="m", messages=HELLO, n=3, max_tokens=4, stream=True)
    texts = {0: "", 1: "", 2: ""}
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert list(texts.values()) == [choice.message.content for choice in answer.choices]
    assert node.state()["generated_tokens"] == 24


async def test_completions_embeddings_and_models(node: NodeServer, client: Connect) -> None:
    api = client(node)
    answer = await api.completions.create(model="m", prompt=["one", "two"], max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1]
    stream = await api.completions.create(model="m", prompt="one", max_tokens=3, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == answer.choices[0].text
    vectors = await api.embeddings.create(model="e", input=["one", "two", "one"], dimensions=8)
    first, second, again = (item.embedding for item in vectors.data)
    assert first == again != second
    assert sum(x * x for x in first) == pytest.approx(1.0, abs=1e-5)
    plain = await api.embeddings.create(model="e", input="one", dimensions=8, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-6)
    null = await api.embeddings.create(model="e", input="one", dimensions=8, extra_body={"encoding_format": None})
    assert null.data[0].embedding == plain.data[0].embedding
    models = await api.models.list()
    assert [model.id for model in models.data] == ["m", "e"]


async def test_errors_raise_the_classes_that_they_should(node: NodeServer, client: Connect) -> None:
    api = client(node)
    with pytest.raises(openai.NotFoundError, match="does not exist") as missing:
        await api.chat.completions.create(model="other", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="messages"):
        await api.chat.completions.create(model="m", messages=[])
    with pytest.raises(openai.BadRequestError, match="n must be"):
        await api.chat.completions.create(model="m", messages=HELLO, n=0)
    with pytest.raises(openai.BadRequestError) as long:
        await api.chat.completions.create(model="m", messages=HELLO, extra_headers={"x-sim-prompt": "40000"})
    assert long.value.code == "context_length_exceeded"
    node.control({"fail": 429})
    with pytest.raises(openai.RateLimitError):
        await api.chat.completions.create(model="m", messages=HELLO)
    node.control({"fail": 503})
    with pytest.raises(openai.InternalServerError):
        await api.chat.completions.create(model="m", messages=HELLO)
    node.control({"fail": "reset"})
    with pytest.raises(openai.APIConnectionError):
        await api.chat.completions.create(model="m", messages=HELLO)
    node.control({"clear": True})
    await api.chat.completions.create(model="m", messages=HELLO, max_tokens=1)
    assert node.state()["requests"] == {"m": 5, "other": 1}


async def test_the_head_of_a_stream_comes_before_its_first_token(node: NodeServer, client: Connect) -> None:
    node.control({"freeze": "engine"})
    stream = await client(node).chat.completions.create(model="m", messages=HELLO, max_tokens=2, stream=True)
    assert stream.response.headers["x-sim-node"] == "a"
    assert node.state()["waiting"] == 1
    node.control({"freeze": False})
    assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_ends_the_work(node: NodeServer, stream: bool) -> None:
    node.control({"slow": 50})
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    body = {"model": "m", "messages": HELLO, "max_tokens": 2000, "stream": stream}
    writer.write(post(body).replace("\n", "\r\n").encode())
    await until(lambda: node.state()["running"] == 1)
    writer.close()
    await until(lambda: node.state()["cancelled"] == 1)
    assert (node.state()["running"], node.state()["kv"]) == (0, 0)
    del reader


async def test_a_node_that_dies_in_mid_stream_never_looks_complete(node: NodeServer, client: Connect) -> None:
    node.control({"fail": "die"})
    stream = await client(node).chat.completions.create(model="m", messages=HELLO, max_tokens=50, stream=True)
    with pytest.raises(openai.APIConnectionError):
        async for _ in stream:
            pass
    head, rest = await exchange(node, post({"model": "m", "messages": HELLO, "stream": True}))
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content" in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert node.state()["running"] == 0


async def test_a_frozen_node_accepts_and_stays_silent_until_it_goes_on(node: NodeServer, client: Connect) -> None:
    node.control({"freeze": True})
    waiting = asyncio.ensure_future(exchange(node, "GET /health HTTP/1.1\nhost: x\nconnection: close\n\n"))
    answer = asyncio.ensure_future(client(node).chat.completions.create(model="m", messages=HELLO, max_tokens=3))
    await until(lambda: node.connections == 2)
    head, rest = await exchange(node, "GET /sim/state HTTP/1.1\nhost: x\nconnection: close\n\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(rest)["control"]["freeze"] == "all"
    assert not waiting.done()
    assert not answer.done()
    node.control({"freeze": False})
    assert (await waiting)[0].startswith(b"HTTP/1.1 200")
    assert (await answer).choices[0].message.content


async def test_a_node_goes_down_and_comes_back_on_its_port(fleet: Fleet, client: Connect) -> None:
    victim, sibling = fleet.nodes["a"], fleet.nodes["b"]
    api = client(victim)
    await api.models.list()
    body = '{"node": "a", "down": true}'
    down = f"POST /sim/control HTTP/1.1\nhost: x\nconnection: close\ncontent-length: {len(body)}\n\n{body}"
    assert (await exchange(sibling, down))[0].startswith(b"HTTP/1.1 200")
    await until(lambda: victim.connections == 0)
    with pytest.raises(openai.APIConnectionError):
        await api.models.list()
    victim.control({"down": False})

    async def back() -> None:
        while True:
            try:
                await client(victim).models.list()
            except openai.APIConnectionError:
                await asyncio.sleep(0.01)
            else:
                return

    await asyncio.wait_for(back(), 5)


async def test_a_hosted_provider_insists_on_its_path_key_host_and_tls() -> None:
    spec = NodeSpec(
        name="hosted",
        base="/compatible-mode/v1",
        key="sk-right",
        insisted_host="qwen.internal",
        tls_cert=str(CERTIFICATES / "qwen.internal.crt"),
        tls_key=str(CERTIFICATES / "qwen.internal.key"),
        zero=True,
    )
    trust = ssl.create_default_context(cafile=CERTIFICATES / "qwen.internal.crt")
    async with Fleet([spec]) as fleet:
        port = fleet.nodes["hosted"].port

        async def status(path: str, host: str, key: str) -> int:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trust, server_hostname="qwen.internal"
            )
            head = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.read()
            writer.close()
            return int(answer.split()[1])

        assert await status("/compatible-mode/v1/models", "qwen.internal", "sk-right") == 200
        assert await status("/compatible-mode/v1/models", "qwen.internal", "sk-wrong") == 401
        assert await status("/compatible-mode/v1/models", "other.internal", "sk-right") == 421
        assert await status("/v1/models", "qwen.internal", "sk-right") == 404


async def test_a_node_without_think_time_answers_at_once_and_alike(client: Connect) -> None:
    async with Fleet([NodeSpec(zero=True, answer=5, control=Control(slow=1000))]) as fleet:
        node = fleet.nodes["node"]
        whole = await client(node).chat.completions.create(model="sim", messages=HELLO)
        stream = await client(node).chat.completions.create(model="sim", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == whole.choices[0].message.content
        assert node.state()["requests"] == {"sim": 2}
        assert node.state()["generated_tokens"] == 0


async def test_request_ids_come_back_and_pipelined_requests_are_answered_in_order(node: NodeServer) -> None:
    slow = post({"model": "m", "messages": HELLO, "max_tokens": 5}, "x-request-id: first\n")
    slow = slow.replace("connection: close\n", "")
    quick = "GET /health HTTP/1.1\nhost: x\nx-request-id: second\n\n"
    last = "GET /v1/models HTTP/1.1\nhost: x\nx-request-id: third\nconnection: close\n\n"
    head, rest = await exchange(node, slow + quick + last)
    answer = head + rest
    places = [answer.index(b"x-request-id: " + name) for name in (b"first", b"second", b"third")]
    assert places == sorted(places)
    assert answer.count(b"connection: close") == 1


async def test_nonsense_behind_a_request_cuts_its_answer_and_never_corrupts_it(node: NodeServer) -> None:
    node.control({"slow": 50})
    asked = post({"model": "m", "messages": HELLO, "stream": True, "max_tokens": 500})
    head, rest = await exchange(node, asked.replace("connection: close\n", "") + "nonsense\n\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1" not in rest
    await until(lambda: node.state()["running"] == 0)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("nonsense\n\n", b"400"),
        ("GET /elsewhere HTTP/1.1\nhost: x\nconnection: close\n\n", b"404"),
        ("GET /v1/chat/completions HTTP/1.1\nhost: x\nconnection: close\n\n", b"405"),
        ("POST /v1/chat/completions HTTP/1.1\nhost: x\nconnection: close\ncontent-length: 4\n\n{{{{", b"400"),
        ("POST /v1/chat/completions HTTP/1.1\nhost: x\nconnection: close\ncontent-length: 2\n\n[]", b"400"),
    ],
)
async def test_what_makes_no_sense_is_refused(node: NodeServer, text: str, status: bytes) -> None:
    head, _ = await exchange(node, text)
    assert head.split()[1] == status
