"""The example of an Envoy that lets pages of other origins in: as a browser asks, what it is allowed, and what not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from support.envoy import RealEnvoy
from support.stack import Stack, node, secret
from weighbridge_simulator.fleet import Fleet
from weighbridge_simulator.node import NodeSpec

pytestmark = pytest.mark.envoy
EXAMPLE = Path(__file__).parents[2] / "examples" / "browser" / "envoy.yaml"
APP = "https://app.example.com"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def before(gateway: int) -> dict[str, Any]:
    """The example with a free port, before the gateway at this one."""
    found: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    (listener,), (cluster,) = found["static_resources"]["listeners"], found["static_resources"]["clusters"]
    listener["address"]["socket_address"]["port_value"] = 0
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint["endpoint"]["address"]["socket_address"]["port_value"] = gateway
    return found


async def test_a_page_of_a_named_origin_may_call_with_its_key_and_others_may_not(
    start_envoy: Callable[..., Awaitable[RealEnvoy]],
) -> None:
    async with Fleet([NodeSpec(name="a", models=(("m", "m"),), zero=True)]) as fleet:
        objects = node("a", fleet.nodes["a"].port), secret("callers", alice="sk-alice")
        async with Stack(*objects, keys="callers") as stack, aiohttp.ClientSession() as http:
            envoy = await start_envoy(before(stack.port))
            base = f"http://127.0.0.1:{await envoy.listener_port()}/v1"
            for origin in (APP, "http://localhost:3000"):
                asked = {"origin": origin, **PREFLIGHT}
                async with http.options(f"{base}/chat/completions", headers=asked) as got:
                    assert (got.status, got.headers["access-control-allow-origin"]) == (200, origin)
                    assert got.headers["access-control-allow-headers"] == "authorization, *"
            for origin in ("https://app.example.com.evil.com", "http://app.example.com", "null"):
                async with http.options(f"{base}/models", headers={"origin": origin, **PREFLIGHT}) as got:
                    assert "access-control-allow-origin" not in got.headers
            key = {"authorization": "Bearer sk-alice", "origin": APP}
            # A page must be able to read why it was refused, too.
            for headers, body, status in ((key, BODY, 200), ({"origin": APP}, BODY, 401), (key, {"model": "z"}, 404)):
                async with http.post(f"{base}/chat/completions", json=body, headers=headers) as got:
                    assert (got.status, got.headers.getall("access-control-allow-origin")) == (status, [APP])
                    assert "x-request-id" in got.headers["access-control-expose-headers"]
            async with http.get(f"{base}/models", headers=key) as got:
                assert (got.status, got.headers["access-control-allow-origin"]) == (200, APP)
