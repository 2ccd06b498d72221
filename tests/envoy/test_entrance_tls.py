"""HTTPS at the entrance on the real Envoy: the official client, new certificates under streams, never plain text."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from support.mounted import authority, server, side
from support.scene import Scene, wait_for
from support.stack import Stack, node, secret
from support.witness import Heard, Witness, whole
from weighbridge_operator.trust.minting import Pair

pytestmark = pytest.mark.envoy
HI: list[Any] = [{"role": "user", "content": "hi"}]
ANSWER = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}).encode()
CHUNK = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
OURS = authority()


def tls(pair: Pair, name: str = "entrance") -> dict[str, Any]:
    entries = side(pair, OURS)
    return secret(name, tls_crt=entries["tls.crt"].decode(), tls_key=entries["tls.key"].decode())


async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(200, ANSWER))


def trusting(folder: Path) -> ssl.SSLContext:
    """What a caller with a file of our authority has."""
    (folder / "ca.pem").write_bytes(OURS.certificate_pem)
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


def ask(stack: Stack, context: ssl.SSLContext) -> openai.AsyncOpenAI:
    http = openai.DefaultAsyncHttpxClient(verify=context)
    url = f"https://localhost:{stack.port}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=http)


async def shown(stack: Stack, context: ssl.SSLContext, *protocols: str) -> tuple[int, str | None]:
    """Serial number of the certificate that a new connection sees, and the protocol that was agreed on."""
    context.set_alpn_protocols(list(protocols or ("http/1.1",)))
    _, writer = await asyncio.open_connection("localhost", stack.port, ssl=context)
    tls = writer.get_extra_info("ssl_object")
    found = int(tls.getpeercert()["serialNumber"], 16), tls.selected_alpn_protocol()
    writer.close()
    return found


HTTP2_OK = 0x88  # `:status: 200` in HPACK's static table


async def list_over_http2(stack: Stack, context: ssl.SSLContext) -> int:
    """GET /v1/models in frames by hand; the first byte of the answer's headers."""
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("localhost", stack.port, ssl=context)
    headers = b"\x82\x87\x41\x09localhost\x44\x0a/v1/models"
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
    writer.write(len(headers).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + headers)
    async with asyncio.timeout(10):
        while True:
            head = await reader.readexactly(9)
            body = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == 1:
                writer.close()
                return body[0]


async def wait_shown(stack: Stack, context: ssl.SSLContext, pair: Pair) -> None:
    async def is_shown() -> bool:
        with suppress(OSError):
            return (await shown(stack, context))[0] == pair.certificate.serial_number
        return False

    await wait_for(is_shown)


async def test_the_official_client_chats_over_https_and_http2_is_offered(tmp_path: Path) -> None:
    context, pair = trusting(tmp_path), server(OURS)
    async with Witness(answer) as witness, Stack(node("a", witness.port), tls(pair), tls="entrance") as stack:
        async with ask(stack, context) as client:
            assert (await client.chat.completions.create(model="m", messages=HI)).model == "m"
        assert await shown(stack, context, "h2", "http/1.1") == (pair.certificate.serial_number, "h2")
        assert (await shown(stack, context, "http/1.1"))[1] == "http/1.1"
        assert await list_over_http2(stack, context) == HTTP2_OK
        assert stack.reporter.build().entrance.startswith("https://")
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"http://127.0.0.1:{stack.port}/v1/models")
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("localhost", stack.port, ssl=ssl.create_default_context())
        dump = await stack.envoys[0].admin("/config_dump")
        assert "PRIVATE KEY" not in dump


async def test_a_new_certificate_cuts_no_stream_and_replaces_no_listener(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
        await writer.drain()
        await release.wait()
        writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    context = trusting(tmp_path)
    async with Witness(slow) as witness:
        one, first = node("a", witness.port), server(OURS)
        async with Stack(one, tls(first), tls="entrance") as stack, ask(stack, context) as client:
            begun = [await client.chat.completions.create(model="m", messages=HI, stream=True) for _ in range(50)]
            for each in begun:
                await anext(aiter(each))
            (envoy,) = stack.envoys
            before = await envoy.stat("listener_manager.listener_modified")
            for _ in range(3):
                second = server(OURS)
                await stack.apply(one, tls(second))
                await wait_shown(stack, trusting(tmp_path), second)
            release.set()
            for each in begun:
                assert len([chunk async for chunk in each]) == 1
            assert await envoy.stat("listener_manager.listener_modified") == before


async def test_a_broken_secret_is_named_and_the_last_good_one_serves(tmp_path: Path) -> None:
    context, pair = trusting(tmp_path), server(OURS)
    async with Witness(answer) as witness:
        one = node("a", witness.port)
        async with Stack(one, tls(pair), tls="entrance") as stack:
            broken = tls(pair)
            broken["stringData"]["tls.key"] = server(OURS).key_pem.decode()
            for objects, said in (
                ((one, broken), "tls.key does not belong to the first certificate"),
                ((one, secret("entrance", tls_crt="junk", tls_key="junk")), "tls.crt holds no certificate"),
                ((one, secret("other", a="b")), "there is no such Secret"),
            ):
                await stack.apply(*objects)
                (problem,) = stack.reporter.build().problems
                assert said in problem
                assert "default/entrance (--entrance-tls-secret)" in problem
                assert "last good one stays" in problem
                assert "PRIVATE" not in problem
                assert (await shown(stack, context))[0] == pair.certificate.serial_number


async def test_without_a_certificate_the_entrance_stays_shut_and_opens_when_there_is_one(tmp_path: Path) -> None:
    context, pair = trusting(tmp_path), server(OURS)
    async with Witness(answer) as witness:
        one = node("a", witness.port)
        async with Stack(one, tls="entrance") as stack:
            (problem,) = stack.reporter.build().problems
            assert "nobody is answered" in problem
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", stack.port)
            assert (await stack.envoys[0].admin("/ready")).strip() != "LIVE"
            await stack.apply(one, tls(pair))
            await wait_shown(stack, context, pair)
            assert (await stack.envoys[0].admin("/ready")).strip() == "LIVE"
            assert stack.reporter.build().problems == ()


class HttpsScene(Scene):
    """A scene with HTTPS at its entrance."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self.pair, self._context = server(OURS), context
        self.url = f"https://localhost:{self.entrance}"
        self.operator_flags = ("--entrance-tls-secret", "entrance", "--host", "127.0.0.1")

    def objects(self) -> list[dict[str, Any]]:
        return [*super().objects(), tls(self.pair)]

    async def answers(self, model: str = "m") -> bool:
        body = {"model": model, "messages": HI}
        with suppress(aiohttp.ClientError):
            async with self.http.post(f"{self.url}/v1/chat/completions", json=body, ssl=self._context) as got:
                return got.status == 200
        return False


async def test_an_operator_that_starts_without_the_certificate_leaves_the_entrance_as_it_is(tmp_path: Path) -> None:
    async with HttpsScene(trusting(tmp_path)) as scene:
        scene.write(*scene.objects()[:-1])
        await scene.operator.kill()
        await scene.start_operator()

        async def holds() -> bool:
            with suppress(aiohttp.ClientError):
                async with scene.http.get(f"http://127.0.0.1:{scene.admin}/status") as got:
                    told = await got.json()
                    return [envoy["current"] for envoy in told["envoys"]] == [True] and bool(told["problems"])
            return False

        await wait_for(holds)
        assert await scene.answers()
