"""Nodes of every engine behind one gateway: asked by their own paths, their load told, their requests served."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from support.stack import Stack, node
from weighbridge_operator.report import EndpointReport, Report
from weighbridge_simulator.engine import Job
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
#: And whether it says how much of its KV cache is used.
ENGINES = {"vllm": True, "sglang": True, "tgi": True, "triton": True, "llamacpp": False, "custom": True}
MAPPING = {
    "queue": {"metric": "inference_requests", "labels": {"stage": "queued"}},
    "running": {"metric": "inference_requests", "labels": {"stage": "decoding"}},
    "kv": {
        "metric": "inference_cache_tokens",
        "labels": {"part": "used"},
        "total": {"metric": "inference_cache_tokens", "labels": {"part": "all"}},
    },
    "latency": {
        "metric": "inference_first_token_seconds_sum",
        "total": {"metric": "inference_first_token_seconds_count"},
        "kind": "counter",
    },
}


def mapped(name: str, port: int, model: str, **signals: object) -> dict[str, Any]:
    return node(name, port, model, engine="custom", metrics={"mapping": MAPPING | signals}, health={"path": "/health"})


def busy(report: Report) -> dict[str, EndpointReport]:
    """The healthy endpoints whose numbers tell of a request that runs, by node."""
    endpoints = [(each.name, endpoint) for each in report.objects for endpoint in each.endpoints]
    return {name: endpoint for name, endpoint in endpoints if endpoint.running and endpoint.healthy}


async def test_each_engine_is_read_and_served() -> None:
    specs = [NodeSpec(name=each, engine=each, models=((each, each),)) for each in ENGINES]
    async with Fleet(specs) as fleet:
        objects = [node(each, fleet.nodes[each].port, each, engine=each) for each in ENGINES if each != "custom"]
        objects.append(mapped("custom", fleet.nodes["custom"].port, "custom"))
        for server in fleet.nodes.values():
            server.node.submit(Job(500, 200_000 // 64), server.engine.since)
        async with Stack(*objects) as stack, aiohttp.ClientSession() as http:
            version = 0
            async with asyncio.timeout(20):
                while True:
                    report, version = await stack.reporter.reports.wait_newer(version)
                    if busy(report).keys() == ENGINES.keys() and all(each.ready for each in report.objects):
                        break
            for name, endpoint in busy(report).items():
                assert (endpoint.running, endpoint.waiting) == (1, 0), name
                assert (endpoint.kv is not None) == ENGINES[name], name
                assert endpoint.score is not None, name
            for name in ENGINES:
                body = {"model": name, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
                async with http.post(f"{stack.url}/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    assert answer.headers["x-sim-node"] == name


async def test_a_metric_that_is_not_on_the_page_is_named_in_the_node_s_condition() -> None:
    async with Fleet([NodeSpec(name="a", engine="custom", models=(("m", "m"),))]) as fleet:
        port = fleet.nodes["a"].port
        async with Stack(mapped("a", port, "m", gpu={"metric": "my_gpu"})) as stack:
            report, version = await stack.reporter.reports.wait_newer(0)
            async with asyncio.timeout(20):
                while not (told := [c for each in report.objects for c in each.conditions if c.reason == "Partial"]):
                    report, version = await stack.reporter.reports.wait_newer(version)
            assert told[0].message == "metrics.mapping.gpu: there is no my_gpu on its pages"
            (endpoint,) = report.objects[0].endpoints
            assert endpoint.score == 0.0
            assert report.pools[0].profile == "llm"
