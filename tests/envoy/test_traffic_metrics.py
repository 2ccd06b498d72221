"""What Envoy counts of requests: by configuration alone, with the same names for whoever reads it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from support.envoy import free_port
from support.prometheus import RealPrometheus, job, needs_prometheus
from support.stack import Stack, node
from weighbridge_operator.admin import Admin
from weighbridge_operator.latest import Latest
from weighbridge_operator.traffic import Traffic
from weighbridge_operator.views.traffic import PATH, relay
from weighbridge_operator.xds.bootstrap import BUCKETS
from weighbridge_operator.xds.request_log import RequestLog
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
RELABEL = Path(__file__).parents[2] / "helm" / "weighbridge" / "files" / "relabel.yaml"
INVENTED = 10_000
LIMITS = {*map(str, BUCKETS), "+Inf"}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with Fleet([NodeSpec(name=name, models=(("m", "m"),), zero=True) for name in "ab"]) as fleet:
        yield fleet


def serve(fleet: Fleet) -> list[dict[str, Any]]:
    return [node("dead", free_port(), "d"), *(node(name, one.port) for name, one in fleet.nodes.items())]


async def ask(stack: Stack, count: int = 1, **body: Any) -> list[int]:
    statuses = []
    async with aiohttp.ClientSession() as http:
        for _ in range(count):
            async with http.post(stack.url + CHAT, json={"messages": HI} | body) as answer:
                await answer.read()
                statuses.append(answer.status)
    return statuses


def read(page: str) -> Series:
    """Samples by name and labels, the Envoy's own left out."""
    return {
        (sample.name, frozenset((k, v) for k, v in sample.labels.items() if k != "envoy")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def only(series: Series, name: str, **labels: str) -> float:
    """The sum of what carries at least these labels."""
    wanted = set(labels.items())
    return sum(value for (found, has), value in series.items() if found == name and wanted <= has)


async def read_page(stack: Stack, limit: float = 20.0) -> str:
    """The operator's page, once the histograms have what was counted: Envoy merges them every 5 s."""
    end = time.monotonic() + limit
    while True:
        page = relay({"e": await stack.envoys[0].admin(PATH)})
        series = read(page)
        if only(series, "weighbridge_first_byte_time_count") == only(series, "weighbridge_requests_total"):
            return page
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


async def test_requests_are_counted_by_model_mode_node_and_code(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack:
        assert await ask(stack, 6, model="m") == [200] * 6
        assert await ask(stack, 4, model="m", stream=True) == [200] * 4
        assert await ask(stack, model="d") == [503]
        assert await ask(stack, 3, model="nobody") == [404] * 3
        async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/v1/models") as answer:
            assert answer.status == 200
        series = read(await read_page(stack))
    name, served = "weighbridge_requests_total", {"type": "text", "model": "m", "code": "200"}
    assert only(series, name, mode="whole", **served) == 6
    assert only(series, name, mode="stream", **served) == 4
    assert {dict(has).get("node") for (found, has) in series if found == name and ("model", "m") in has} <= {"a", "b"}
    failed = {"type": "text", "mode": "whole", "model": "d", "code": "503"}
    assert only(series, name, **failed) == 1
    assert series[name, frozenset({"type": "text", "code": "404"}.items())] == 3
    assert series[name, frozenset({"code": "200"}.items())] == 1
    stream = {"type": "text", "mode": "stream", "model": "m"}
    histogram = "weighbridge_first_byte_time"
    assert series[f"{histogram}_count", frozenset(stream.items())] == 4
    assert series[f"{histogram}_bucket", frozenset((stream | {"le": "+Inf"}).items())] == 4
    assert only(series, "weighbridge_request_time_count") == 10
    for name in (histogram, "weighbridge_request_time"):
        assert {dict(has)["le"] for (found, has) in series if found == f"{name}_bucket"} == LIMITS
    assert series["weighbridge_requests_active", frozenset()] == 0


async def test_names_that_callers_invent_make_no_series(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack:
        await ask(stack, model="first")
        before = set(read(await read_page(stack)))
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        for number in range(INVENTED):
            body = json.dumps({"model": f"invented-{number}", "stream": number % 2 == 0}).encode()
            head = f"POST {CHAT}?q={number} HTTP/1.1\r\nhost: h{number}\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}x-request-id: {number}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 404")
            length = re.search(rb"content-length: (\d+)", answer)
            assert length
            await reader.readexactly(int(length[1]))
        writer.close()
        series = read(await read_page(stack))
        assert set(series) == before
        assert series["weighbridge_requests_total", frozenset({"type": "text", "code": "404"}.items())] == INVENTED + 1
        assert "invented" not in await stack.envoys[0].admin("/stats/prometheus")


async def test_a_listener_that_replaces_another_counts_on(fleet: Fleet, tmp_path: Path) -> None:
    async with Stack(*serve(fleet)) as stack:
        await ask(stack, 2, model="m")
        stack.loop._entrance = replace(stack.loop._entrance, requests=RequestLog(str(tmp_path / "log")))
        await stack.apply(*serve(fleet), node("another", free_port(), "x"))
        await ask(stack, 3, model="m")
        series = read(await read_page(stack))
        assert await stack.envoys[0].stat("listener_manager.listener_modified") == 1
    assert only(series, "weighbridge_requests_total", model="m") == 5
    assert only(series, "weighbridge_first_byte_time_count", model="m") == 5


async def test_tries_and_ejections_are_told(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack:
        fleet.nodes["a"].control({"fail": {"status": 503}})
        assert await ask(stack, 12, model="m") == [200] * 12
        now = read(relay({"e": await stack.envoys[0].admin(PATH)}))
        series = read(await read_page(stack))
    assert only(now, "weighbridge_ejected_nodes") == 1
    assert only(series, "weighbridge_retries_total") >= 3
    assert only(series, "weighbridge_ejections_total") == 1
    assert not [has for (_, has) in series if ("cluster", "xds") in has]


async def test_the_operators_page_has_it_and_promtool_has_nothing_to_say(fleet: Fleet) -> None:
    async with Stack(*serve(fleet)) as stack, aiohttp.ClientSession() as http:
        await ask(stack, 3, model="m")
        await read_page(stack)
        places = {"one": stack.envoys[0].admin_url, "away": f"http://127.0.0.1:{free_port()}"}
        admin = Admin(Latest(), Traffic(http, lambda: places).read)
        port = await admin.start()
        try:
            pages = await asyncio.gather(*(fetch(http, port) for _ in range(5)))
        finally:
            await admin.stop()
    assert len(set(pages)) == 1
    assert 'weighbridge_requests_total{envoy="one",type="text",mode="whole",model="m",' in pages[0]
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("not run: promtool's word on the page; Debian's package prometheus brings it")
    check = partial(subprocess.run, [tool, "check", "metrics"], capture_output=True, check=False)
    done = await asyncio.to_thread(check, input=pages[0].encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def fetch(http: aiohttp.ClientSession, port: int) -> str:
    async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        return await answer.text()


@needs_prometheus
async def test_a_prometheus_that_scrapes_envoy_itself_ends_with_the_same_series(fleet: Fleet) -> None:
    """With the rules that the chart's PodMonitor has."""
    async with Stack(*serve(fleet)) as stack:
        await ask(stack, 3, model="m")
        await ask(stack, 2, model="m", stream=True)
        await ask(stack, model="d")
        await ask(stack, model="nobody")
        wanted = {
            (name, has)
            for (name, has) in read(await read_page(stack))
            if not name.endswith(("_created", "_waiting_bytes"))
        }
        rules = yaml.safe_load(RELABEL.read_text())
        target = stack.envoys[0].admin_url.removeprefix("http://")
        scrape = job("envoys", target, metrics_path="/stats/prometheus", metric_relabel_configs=rules)
        async with RealPrometheus([scrape], interval="1s") as prometheus, aiohttp.ClientSession() as http:
            await prometheus.wait_series('{__name__="weighbridge_first_byte_time_count",model="m"}', 2)
            async with http.post(
                f"{prometheus.url}/api/v1/query", data={"query": '{__name__=~"weighbridge_.+"}'}
            ) as answer:
                result = (await answer.json())["data"]["result"]
    found = {
        (
            sample["metric"].pop("__name__"),
            frozenset((k, v) for k, v in sample["metric"].items() if k not in ("job", "instance")),
        )
        for sample in result
    }
    assert {(name, has) for name, has in found if not name.endswith("_waiting_bytes")} == wanted
