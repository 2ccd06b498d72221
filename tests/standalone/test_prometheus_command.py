"""`weighbridge operator --prometheus` as a process: what it says of where a node's load was read."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from support.envoy import free_port
from support.prometheus import RealPrometheus, job, needs_prometheus
from support.scene import COMMAND, Process
from support.stack import node
from weighbridge_simulator.control import Control
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec


@needs_prometheus
async def test_explain_status_and_metrics_name_the_prometheus(tmp_path: Path) -> None:
    spec = NodeSpec(name="a", models=(("m", "m"),), machine=True, control=Control(cpu=0.4))
    async with Fleet([spec]) as fleet:
        port = fleet.nodes["a"].port
        files = tmp_path / "nodes.yaml"
        files.write_text(yaml.safe_dump(node("a", port, engine="openai", metrics={"prometheus": {}})))
        async with RealPrometheus([job("a", f"127.0.0.1:{port}", metrics_path="/metrics")]) as prometheus:
            admin = f"127.0.0.1:{free_port()}"
            places = ("--xds", f"127.0.0.1:{free_port()}", "--admin", admin, "--state", str(tmp_path / "state"))
            asked = ("--prometheus", prometheus.url, "--prometheus-interval", "1s", "--output", "plain")
            command = (sys.executable, "-c", COMMAND, "operator", "-f", str(files), *places, *asked)
            operator = Process(*command, log=tmp_path / "log")
            await operator.start()
            try:
                explained, metrics = await watch(admin)
            finally:
                await operator.kill()
    arithmetic = explained["explanations"][0]["endpoints"][0]["arithmetic"]
    place = f"127.0.0.1:{prometheus.port}"
    assert any(line.startswith("cpu 40%") and f"(Prometheus {place}, " in line for line in arithmetic), arithmetic
    assert explained["prometheus"][0]["name"] == place
    assert f'weighbridge_prometheus_up{{server="{place}"}} 1\n' in metrics


async def watch(admin: str) -> tuple[dict[str, Any], str]:
    """What it explains once it knows the node's CPU, and its metrics."""
    end = time.monotonic() + 40
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < end:
            try:
                async with http.get(f"http://{admin}/explain") as answer:
                    told = await answer.json()
                known = [e for node in told.get("explanations", ()) for e in node["endpoints"]]
                if any("cpu" in line for e in known for line in e["arithmetic"]):
                    async with http.get(f"http://{admin}/metrics") as answer:
                        return told, await answer.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise AssertionError("no CPU was known in time")
