"""What the real Envoy sends a data plane, as it is written down for the tests that have none beside them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf.json_format import MessageToDict

from support.choice import cluster_of, find_ways, reach
from support.oracle import Oracle
from support.stack import Stack, node, policy
from support.witness import Witness

pytestmark = pytest.mark.envoy
TRANSCRIPTS = Path(__file__).parents[1] / "dataplane" / "transcripts"


@pytest.mark.parametrize("name", ["plain", "chain"])
async def test_a_request_is_sent_as_it_is_written_down(name: str, pytestconfig: pytest.Config) -> None:
    more = {"fallback": [{"model": "small"}]} if name == "chain" else {}
    async with Oracle() as oracle, Witness() as a, Witness() as b:
        objects = [
            node("a", a.port),
            node("b", b.port, "small"),
            policy("p", match={"models": ["m"]}, balance={"precise": True}, **more),
        ]
        async with Stack(*objects, dataplanes=(oracle.path,)) as stack, aiohttp.ClientSession() as http:
            await reach(oracle, stack)
            body = {"model": "m", "messages": [{"role": "user", "content": "why? " * 1000}]}
            await (await http.post(f"{stack.url}/v1/chat/completions", json=body, headers={"x-session-id": "s"})).read()
            cluster = cluster_of(stack, "a")
            changing = {cluster: "the cluster of a"}
            if more:
                changing[(await find_ways(oracle, stack))[cluster]] = "the way to a"
            told = MessageToDict(oracle.asked[-1], preserving_proto_field_name=True)
    text = json.dumps(_still(told, changing), indent=2, sort_keys=True) + "\n"
    path = TRANSCRIPTS / f"envoy-{name}.json"
    if pytestconfig.getoption("--update-golden", default=False):
        path.write_text(text)
    assert path.read_text() == text


def _still(told: dict[str, Any], changing: dict[str, str]) -> dict[str, Any]:
    """The same with what differs from run to run put in words."""
    text = json.dumps(told)
    for value, words in changing.items():
        text = text.replace(value, words)
    still: dict[str, Any] = json.loads(text)
    headers = {"x-request-id": "a request", "x-weighbridge-session": "0123456789abcdef"}
    headers["x-weighbridge-blocks"] = ".".join(["0123abcd"] * 4)
    for header in still["request_headers"]["headers"]["headers"]:
        if header["key"] in headers:
            header["raw_value"] = _encode(headers[header["key"]])
    return still


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
