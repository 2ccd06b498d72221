"""Servers that are away, slow, locked, huge, wrong or behind: none delays a round or tells a secret."""

from __future__ import annotations

import asyncio
import io
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from support.authority import Authority
from support.envoy import free_port
from support.prometheus import Asking, Exporters, RealPrometheus, Scenario, job, needs_prometheus, run_together, values
from weighbridge_operator.latest import Latest
from weighbridge_operator.sources import prometheus_fleet as fleet
from weighbridge_operator.sources import prometheus_server as module
from weighbridge_operator.sources.envoys import EnvoyRound
from weighbridge_operator.sources.merging import Knowledge
from weighbridge_operator.sources.prometheus_answers import Wanted
from weighbridge_operator.sources.rounds import Rounds
from weighbridge_operator.sources.scrape import ScrapeTarget
from weighbridge_operator.state import LoadRound

PAGE = 'vllm:num_requests_running{model_name="m"} 7\nvllm:num_requests_waiting{model_name="m"} 0\n'
SECRET = "hunter2-is-a-secret"
HASHED = "$2a$04$eq/Um5StzyO1yHLj1XZCLenQ8Sl2vSbAOVQuJP/MVJXY8YYS/RHdm"  # the same, as bcrypt has it
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    """Something that is no Prometheus, or stands before one."""
    runner = web.ServerRunner(web.Server(handler), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0][:2])
    await runner.cleanup()


def before(url: str, allow: Callable[[web.BaseRequest], int]) -> Handler:
    """Passes on to the real one what `allow` answers 200 for."""

    async def pass_on(request: web.BaseRequest) -> web.StreamResponse:
        status = allow(request)
        if status != 200:
            return web.Response(status=status)
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}{request.path}", data=await request.post()) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")

    return pass_on


@asynccontextmanager
async def scraped(
    **web_config: object,
) -> AsyncIterator[tuple[RealPrometheus, Wanted]]:
    """A real Prometheus that scrapes one node."""
    async with Exporters() as exporters:
        exporters.pages["/a"] = PAGE
        wanted = Wanted("lab/a", "vllm", instances=frozenset({exporters.place}))
        async with RealPrometheus([job("a", exporters.place)], web_config=web_config or None) as prometheus:
            yield prometheus, wanted


def with_folder(scenario: Callable[[Path], Awaitable[None]]) -> Scenario:
    """With a folder that goes with it."""

    @wraps(scenario)
    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="prometheus-") as folder:
            await scenario(Path(folder))

    return run


def knows(knowledge: Knowledge) -> bool:
    return values(knowledge, "lab/a").get("running") == 7.0


def fault(knowledge: Knowledge) -> str:
    return knowledge.found["lab/a"].error or ""


@with_folder
async def basic_authentication_of_the_real_one(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(SECRET + "\n")
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    logging.getLogger().addHandler(handler)
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    async with (
        scraped(basic_auth_users={"reader": HASHED}) as (prometheus, wanted),
        Asking([prometheus.url], [wanted], user="reader", password_file=password) as asking,
    ):
        await asking.until(knows)
        password.write_text("not-the-password")
        refused = await asking.until(lambda k: bool(fault(k)))
        password.write_text(SECRET)
        back = await asking.until(lambda k: not fault(k))
    logging.getLogger().removeHandler(handler)
    port = prometheus.port
    told = "see --prometheus-token-file, or --prometheus-user and --prometheus-password-file"
    assert fault(refused) == f"Prometheus 127.0.0.1:{port} answered 401: {told}"
    assert knows(refused), "what is known is used until it is too old"
    assert back.servers[0].error is None
    assert "/api/v1/query" in logged.getvalue()
    assert SECRET not in logged.getvalue() + repr(refused) + repr(back)


@with_folder
async def a_bearer_token_is_read_anew_and_a_slash_at_the_end_of_a_path_is_no_other_path(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    right = "old"
    async with scraped() as (prometheus, wanted):

        def allow(request: web.BaseRequest) -> int:
            return 200 if request.headers.get("Authorization") == f"Bearer {right}" else 403

        async with (
            serve(before(prometheus.url, allow)) as url,
            Asking([url + "/"], [wanted], token_file=token) as asking,
        ):
            await asking.until(knows)
            right = "new"
            assert "answered 403" in fault(await asking.until(lambda k: bool(fault(k))))
            token.write_text("new")
            await asking.until(lambda k: not fault(k))
            token.write_text("two\nlines")
            broken = fault(await asking.until(lambda k: bool(fault(k))))
    assert broken.endswith("is not asked: the file of its token holds no line of printable characters")


@with_folder
async def tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("prometheus", addresses=("127.0.0.1",))
    certificate = {"cert_file": str(pair.certificate), "key_file": str(pair.key)}
    async with scraped(tls_server_config=certificate) as (prometheus, wanted):
        assert prometheus.url.startswith("https://")
        async with Asking([prometheus.url], [wanted], ca_file=authority.certificate) as asking:
            await asking.until(knows)
        async with Asking([prometheus.url], [wanted]) as asking:
            assert fault(await asking.next()).endswith("failed the TLS handshake")


async def of_several_replicas_a_dead_one_costs_nothing_and_the_fresher_one_is_believed() -> None:
    async with scraped() as (prometheus, wanted), scraped() as (empty, other):
        dead = f"http://127.0.0.1:{free_port()}"
        # The second scrapes another node: it answers, and knows nothing of ours.
        assert other.instances != wanted.instances
        async with Asking([dead, empty.url, prometheus.url], [wanted]) as asking:
            knowledge = await asking.until(knows)
            assert knowledge.found["lab/a"].source == f"Prometheus 127.0.0.1:{prometheus.port}"
            began = time.monotonic()
            later = await asking.next(4)
            assert time.monotonic() - began < 6, "four rounds of 0.5 s"
            assert later.servers[0].queries - knowledge.servers[0].queries <= 1
            assert later.servers[0].error is not None
            prometheus.kill()
            held = await asking.until(lambda k: bool(fault(k)))
            assert fault(held).startswith(f"Prometheus 127.0.0.1:{prometheus.port} cannot be connected to")
            assert knows(held), "nothing from another is no better than what was just known"
            await prometheus.start()
            back = await asking.until(lambda k: knows(k) and not fault(k), limit=60)
            assert back.found["lab/a"].source == f"Prometheus 127.0.0.1:{prometheus.port}"


SCENARIOS = (
    basic_authentication_of_the_real_one,
    a_bearer_token_is_read_anew_and_a_slash_at_the_end_of_a_path_is_no_other_path,
    tls_with_an_authority_of_ones_own,
    of_several_replicas_a_dead_one_costs_nothing_and_the_fresher_one_is_believed,
)
outcomes = run_together(*SCENARIOS)


@needs_prometheus
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
async def test_on_a_real_prometheus(outcomes: Mapping[str, asyncio.Task[None]], scenario: str) -> None:
    await outcomes[scenario]


async def hang(_: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_hanging_prometheus_delays_no_round_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ", 1.0)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=PAGE) if request.path == "/metrics" else await hang(request)

    async with serve(answer) as url:
        target = ScrapeTarget("lab/a", "vllm", (f"{url}/metrics",))
        out: Latest[LoadRound] = Latest()
        async with Asking([url], [Wanted("lab/a", "vllm"), Wanted("lab/b", "vllm")]) as asking:
            rounds = Rounds(
                lambda: [target], dict, dict, out, Latest[EnvoyRound](), period=lambda _: 0.2, prometheus=asking.out
            )
            task = asyncio.create_task(rounds.run())
            began = time.monotonic()
            while out.version < 10:
                await out.wait_newer(out.version)
            assert time.monotonic() - began < 5
            await asking.next()
            sample, _ = await out.wait_newer(out.version)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert sample.samples["lab/a"].running == 7.0
    assert sample.samples["lab/a"].source == "scrape"
    assert (sample.samples["lab/b"].error or "").endswith("did not answer within 1 s")


async def huge(request: web.BaseRequest) -> web.StreamResponse:
    if (await request.post()).get("query") == "time()":
        return web.json_response({"data": {"result": [time.time(), str(time.time())]}})
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_compression()
    await response.prepare(request)
    for _ in range(8):
        await response.write(b" " * 1024 * 1024)
    return response


def answering(**options: object) -> Handler:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(**options)  # type: ignore[arg-type]

    return answer


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (huge, "brings more than 2 MiB"),
        (answering(text="<html>"), "answered something else than a Prometheus does"),
        (answering(text='{"data": {"result": 5}}'), "answered something else than a Prometheus does"),
        (answering(text='{"data": {"result": [1, "x"]}}'), "answered something else than a Prometheus does"),
        (answering(status=302, headers={"Location": "http://127.0.0.1:9/"}), "redirects, which is not followed"),
        (answering(status=404), "answered 404: the URL is not that of a Prometheus, or its path is missing"),
        (answering(status=503), "answered 503"),
    ],
    ids=["huge", "no JSON", "no list", "no time", "redirect", "404", "503"],
)
async def test_what_is_no_answer_is_said_in_a_sentence(
    handler: Handler, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIZE_MAXIMUM", 2 * 1024 * 1024)
    async with serve(handler) as url, Asking([url], [Wanted("lab/a", "vllm", labels=(("a", "b"),))]) as asking:
        assert words in fault(await asking.next())


@needs_prometheus
async def test_one_answer_that_is_too_large_leaves_the_others_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "SERIES_MAXIMUM", 2)
    async with Exporters() as exporters:
        exporters.pages["/a"] = PAGE + "".join(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{n}"}} 50\n' for n in range(3))
        wanted = Wanted("lab/a", "vllm", instances=frozenset({exporters.place}))
        async with (
            RealPrometheus([job("a", exporters.place)]) as prometheus,
            Asking([prometheus.url], [wanted]) as asking,
        ):
            knowledge = await asking.until(knows)
    assert values(knowledge, "lab/a") == {"running": 7.0, "waiting": 0.0}
    assert fault(knowledge) == "the query for DCGM is of no use: Prometheus answered 3 series, more than 2"


@needs_prometheus
async def test_a_clock_that_is_wrong_on_one_side_makes_nothing_older(monkeypatch: pytest.MonkeyPatch) -> None:
    # The server's timestamps are held against its own time(), never against our wall clock.
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    async with scraped() as (prometheus, wanted), Asking([prometheus.url], [wanted]) as asking:
        knowledge = await asking.until(knows)
        now = time.monotonic()
    assert -0.1 < now - knowledge.found["lab/a"].numbers["running"].at < 5
    assert knowledge.servers[0].skew is not None
    assert knowledge.servers[0].skew > 1e8
