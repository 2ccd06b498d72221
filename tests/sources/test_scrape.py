"""Asking real servers: what arrives within bounds counts, and what does not costs only itself."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import ssl
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from weighbridge_metrics.signals import extract
from weighbridge_operator.sources import scrape as module
from weighbridge_operator.sources.scrape import FetchError, ScrapeTarget, fetch, open_session, scrape

PAGES = Path(__file__).parent / "fixtures"
VLLM = (PAGES / "vllm-0.8.prom").read_bytes()
NODE = (PAGES / "node_exporter-1.12.prom").read_bytes()

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on a free loopback port, as "host:port"."""
    runner = web.ServerRunner(web.Server(answer), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


def text(body: bytes, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4", **headers})

    return answer


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def get(url: str, **bounds: float) -> bytes:
    async with open_session() as session:
        return (await fetch(session, url, time.monotonic, **bounds)).text  # type: ignore[arg-type]


async def failure(answer: Answer, **bounds: float) -> str:
    async with serving(answer) as place:
        with pytest.raises(FetchError) as raised:
            await get(f"http://{place}/metrics?token=secret", **bounds)
    return str(raised.value).replace(place, "HERE")


async def test_a_page_arrives_plain_and_packed() -> None:
    async with (
        serving(text(VLLM)) as plain,
        serving(text(gzip.compress(VLLM), **{"Content-Encoding": "gzip"})) as packed,
    ):
        assert await get(f"http://{plain}/metrics") == VLLM
        assert await get(f"http://{packed}/metrics") == VLLM


@pytest.mark.parametrize(
    "kind", ["application/openmetrics-text; version=1.0.0", "application/octet-stream", "text/plain"]
)
async def test_exposition_text_travels_under_many_names(kind: str) -> None:
    async with serving(text(VLLM, **{"Content-Type": kind})) as place:
        assert await get(f"http://{place}/metrics") == VLLM


async def test_errors_are_one_sentence_without_the_query() -> None:
    async def status(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://127.0.0.1:1/")

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"vllm:num")
        assert request.transport is not None
        request.transport.close()
        return response

    html = text(b"<html>", **{"Content-Type": "text/html"})
    brotli = text(b"x", **{"Content-Encoding": "br"})
    torn = text(gzip.compress(VLLM)[:-20], **{"Content-Encoding": "gzip"})
    assert await failure(status) == "HERE/metrics answered 503"
    assert await failure(elsewhere) == "HERE/metrics redirects, which is not followed"
    assert await failure(html) == "HERE/metrics answered text/html, which is no exposition text"
    assert await failure(brotli) == "HERE/metrics packed its answer as br, which was not asked for"
    assert await failure(torn) == "HERE/metrics sent broken gzip"
    assert await failure(hang, timeout=0.05) == "HERE/metrics did not answer within 0.05 s"
    assert (await failure(cut)).startswith("HERE/metrics broke off its answer")


async def test_nobody_there_is_a_sentence(unused_tcp_port: int) -> None:
    with pytest.raises(
        FetchError, match=rf"^127.0.0.1:{unused_tcp_port}/metrics cannot be connected to \(Connect.*\)$"
    ):
        await get(f"http://127.0.0.1:{unused_tcp_port}/metrics")


async def test_a_page_that_never_ends_is_cut_off() -> None:
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        for _ in itertools.count():
            await response.write(b"vllm:num_requests_running 1\n" * 5000)
            written += 5000 * 28
        return response

    assert await failure(endless) == "HERE/metrics is larger than 4 MiB"
    assert written < 4 * module.SIZE_MAXIMUM


async def test_a_small_gzip_that_holds_gigabytes_is_cut_off_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\n" * (64 * 1024 * 1024))
    tracemalloc.start()
    try:
        assert await failure(text(bomb, **{"Content-Encoding": "gzip"})) == "HERE/metrics is larger than 4 MiB"
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


async def test_what_follows_packed_text_is_not_read_for_ever() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})
        await response.prepare(request)
        await response.write(gzip.compress(VLLM))
        while True:
            await response.write(bytes(65536))

    assert await failure(endless, timeout=30.0) == "HERE/metrics sent something behind its gzip"


async def test_a_page_larger_than_any_engines_is_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = []

    def read(*arguments: Any) -> Any:
        readers.append(threading.current_thread())
        return extract(*arguments)

    monkeypatch.setattr(module, "extract", read)
    padding = b"# nothing\n" * (module.LARGE // 10)
    async with serving(text(VLLM)) as usual, serving(text(VLLM + padding)) as large, open_session() as session:
        for place in (usual, large):
            target = ScrapeTarget("lab/a", "vllm", (f"http://{place}/metrics",))
            sample, _ = await scrape(session, target, {}, time.monotonic)
            assert (sample.error, sample.running) == (None, 12.0)
    assert [reader is threading.main_thread() for reader in readers] == [True, False]


async def test_a_slow_drip_does_not_outlast_the_bound() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"#\n")
            await asyncio.sleep(0.01)

    assert await failure(drip, timeout=0.1) == "HERE/metrics did not answer within 0.1 s"


async def test_a_node_is_made_of_its_endpoints_and_one_that_fails_is_named() -> None:
    async with serving(text(VLLM)) as engine, serving(text(NODE)) as machine, serving(text(b"")) as empty:
        urls = (f"http://{engine}/metrics", f"http://{machine}/metrics", "http://127.0.0.1:1/metrics")
        async with open_session() as session:
            sample, counters = await scrape(session, ScrapeTarget("lab/a", "vllm", urls), {}, time.monotonic)
            silent, _ = await scrape(
                session, ScrapeTarget("lab/a", "vllm", (f"http://{empty}/metrics",)), {}, time.monotonic
            )
            engineless, _ = await scrape(session, ScrapeTarget("lab/a", "vllm", urls[::-1]), {}, time.monotonic)
    assert (sample.running, sample.memory) == (12.0, 0.25)
    assert sample.error is not None
    assert sample.error.startswith("127.0.0.1:1/metrics cannot be connected to")
    assert counters.keys() == {"cpu", "latency"}
    assert silent.error == "none of the metrics that vllm prints could be read"
    assert engineless.error == sample.error


async def test_a_node_that_nobody_could_ask_keeps_its_counters_and_has_no_numbers() -> None:
    async with open_session() as session:
        target = ScrapeTarget("lab/a", "vllm", ("http://127.0.0.1:1/a", "http://127.0.0.1:1/b"))
        before = {"cpu": object()}
        sample, counters = await scrape(session, target, before, lambda: 7.0)  # type: ignore[arg-type]
        nowhere, _ = await scrape(session, ScrapeTarget("lab/a", "vllm", ()), {}, lambda: 7.0)
    assert sample.error is not None
    assert sample.error.count("cannot be connected to") == 2
    assert (sample.at, sample.running, counters) == (7.0, None, before)
    assert nowhere.error == "no endpoint to ask"


async def test_the_sample_is_as_old_as_the_engines_answer_not_as_the_slowest_page() -> None:
    released = asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return await text(NODE)(request)

    ticks = itertools.count(1.0)

    def clock() -> float:
        now = next(ticks)
        released.set()
        return now

    async with serving(text(VLLM)) as engine, serving(late) as machine, open_session() as session:
        target = ScrapeTarget("lab/a", "vllm", (f"http://{engine}/metrics", f"http://{machine}/metrics"))
        sample, _ = await scrape(session, target, {}, clock)
    assert (sample.at, sample.memory) == (1.0, 0.25)


async def test_the_host_header_is_the_nodes_name() -> None:
    heard = []

    async def listen(request: web.Request) -> web.StreamResponse:
        heard.append(request.headers["Host"])
        return await text(VLLM)(request)

    async with serving(listen) as place, open_session() as session:
        target = ScrapeTarget("lab/a", "vllm", (f"http://{place}/metrics",), host="qwen.internal")
        await scrape(session, target, {}, time.monotonic)
    assert heard == [f"qwen.internal:{place.rpartition(':')[2]}"]


async def test_a_node_with_tls_is_verified_against_its_own_authority() -> None:
    certificate, key = PAGES / "qwen.internal.crt", PAGES / "qwen.internal.key"
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with serving(text(VLLM), served) as place, open_session() as session:

        async def ask(host: str, tls: ssl.SSLContext | None) -> tuple[float | None, str | None]:
            target = ScrapeTarget("lab/a", "vllm", (f"https://{place}/metrics",), host=host, tls=tls)
            sample, _ = await scrape(session, target, {}, time.monotonic)
            return sample.running, sample.error

        assert await ask("qwen.internal", trusting) == (12.0, None)
        assert await ask("other.internal", trusting) == (None, f"{place}/metrics failed the TLS handshake")
        assert await ask("qwen.internal", None) == (None, f"{place}/metrics failed the TLS handshake")


async def test_the_node_s_credential_goes_to_its_own_port_alone() -> None:
    asked: dict[str, str | None] = {}

    async def tell(request: web.Request) -> web.StreamResponse:
        asked[request.path] = request.headers.get("Authorization")
        return web.Response(body=VLLM if request.path == "/metrics" else NODE, content_type="text/plain")

    async with serving(tell) as place, open_session() as session:
        own, beside = f"http://{place}/metrics", f"http://{place}/exporter"
        target = ScrapeTarget("lab/a", "vllm", (own, beside), key="sk-1", guarded=frozenset({own}))
        sample, _ = await scrape(session, target, {}, time.monotonic)
    assert asked == {"/metrics": "Bearer sk-1", "/exporter": None}
    assert sample.error is None
    assert "sk-1" not in repr(target)
