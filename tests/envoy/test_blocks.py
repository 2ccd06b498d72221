"""The script that hashes a body's beginning, in the real Envoy: on the routes that name it, and on no other."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from support.envoy import RealEnvoy
from weighbridge_operator.xds.scripts import write_blocks

pytestmark = pytest.mark.envoy
_TYPES = "type.googleapis.com/envoy.extensions.filters"
TEXT = json.dumps({"messages": [{"role": "user", "content": "why does a queue grow? " * 200}]})


def bootstrap() -> dict[str, Any]:
    """Answers with what the script wrote; /plain has a route that does not name it, /key/N one with a key."""
    lua = {"@type": f"{_TYPES}.http.lua.v3.Lua", "source_codes": {"blocks": {"inline_string": write_blocks()}}}
    named = {"blocks": {"@type": f"{_TYPES}.http.lua.v3.LuaPerRoute", "name": "blocks"}}
    told = [
        {"header": {"key": f"told-{name}", "value": f"%REQ(x-weighbridge-{name})%"}} for name in ("blocks", "session")
    ]
    answer = {"direct_response": {"status": 200}, "response_headers_to_add": told}

    def give(key: int) -> dict[str, Any]:
        return {"blocks": {**named["blocks"], "filter_context": {"k0": key, "k1": 7 * key}}}

    routes = [
        {"match": {"path": "/plain"}, **answer},
        *({"match": {"path": f"/key/{key}"}, **answer, "typed_per_filter_config": give(key)} for key in (1, -2)),
        {"match": {"prefix": "/"}, **answer, "typed_per_filter_config": named},
    ]
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "blocks", "typed_config": lua},
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    listener = {
        "name": "front",
        "address": address,
        "filter_chains": [chain],
        "per_connection_buffer_limit_bytes": 16 << 20,
    }
    return {"static_resources": {"listeners": [listener]}}


async def ask(port: int, body: str | None, path: str = "/", **headers: str) -> tuple[list[str], str | None]:
    """The hashes and the conversation, over a connection of its own."""
    url = f"http://127.0.0.1:{port}{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.request("POST" if body else "GET", url, data=body, headers=named) as a,
    ):
        assert a.status == 200
        told = {name: a.headers.get(f"told-{name}", "-") for name in ("blocks", "session")}
    blocks, session = told["blocks"], told["session"]
    return [] if blocks == "-" else blocks.split("."), None if session == "-" else session


async def test_all_workers_of_an_envoy_agree_on_a_beginning_and_other_envoys_where_the_route_gives_the_key() -> None:
    async with AsyncExitStack() as running:
        envoys = [await running.enter_async_context(RealEnvoy(bootstrap(), concurrency=4)) for _ in range(2)]
        ports = [await envoy.listener_port() for envoy in envoys]
        ours = [await ask(ports[0], TEXT, x_session_id="a") for _ in range(24)]
        theirs = await ask(ports[1], TEXT, x_session_id="a")
        shared = [[await ask(port, TEXT, f"/key/{key}") for port in ports] for key in (1, -2)]
    assert all(one == ours[0] for one in ours)
    assert len(ours[0][0]) == 3 + len(TEXT) // 1024
    assert not set(ours[0][0]) & set(theirs[0])
    assert all(one == two and len(one[0]) == 3 + len(TEXT) // 1024 for one, two in shared)
    assert not set(shared[0][0][0]) & (set(shared[1][0][0]) | set(ours[0][0]))
    assert ours[0][1] == theirs[1]  # conversations are the same to all


async def test_what_begins_alike_is_told_so_and_only_routes_that_name_the_script_pay() -> None:
    async with RealEnvoy(bootstrap()) as envoy:
        port = await envoy.listener_port()
        first, _ = await ask(port, TEXT + " " * 200_000)
        second, _ = await ask(port, TEXT[:3000] + "x" * 200_000)
        assert (len(first), len(second)) == (64, 64)
        assert [one == two for one, two in zip(first, second, strict=True)] == [True] * 5 + [False] * 59
        assert await ask(port, TEXT[:128]) == ([], None)
        assert await ask(port, None) == ([], None)
        assert await ask(port, TEXT, "/plain", x_session_id="a") == ([], None)


async def test_a_conversation_is_named_by_its_header_its_cache_key_or_its_user_and_its_caller() -> None:
    async with RealEnvoy(bootstrap()) as envoy:
        port = await envoy.listener_port()
        key = json.dumps({"messages": [{"content": "x" * 100_000}], "prompt_cache_key": "talk-7"})
        small = json.dumps({"prompt_cache_key": "talk-7", "messages": []})
        named = (await ask(port, "{}", x_session_id="talk-7"))[1]
        assert named is not None
        assert len(named) == 16
        assert [(await ask(port, body))[1] for body in (key, small)] == [named, named]
        user = json.dumps({"messages": [{"role": "user", "content": 'of "user": "talk-8"'}], "user": "talk-7"})
        assert (await ask(port, user))[1] == named
        assert (await ask(port, user[:-1] + ', "prompt_cache_key": "talk-8"}'))[1] not in (None, named)
        assert (await ask(port, small, x_session_id="talk-8"))[1] not in (None, named)
        assert (await ask(port, small, x_weighbridge_client="caller"))[1] not in (None, named)
        long = [(await ask(port, "{}", x_session_id="x" * size))[1] for size in (2000, 2001)]
        assert long[0] != long[1]
