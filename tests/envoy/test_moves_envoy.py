"""Models that share their nodes until one of them gets a node that the other has not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from support.stack import Stack, node
from support.witness import Witness

pytestmark = pytest.mark.envoy
BOTH = [{"name": "adapter"}, {"name": "base", "servedAs": "own"}]
COLD = 0.5  # seconds in which a new cluster waits for its nodes
PATIENCE = 10.0  # seconds


async def ask(http: aiohttp.ClientSession, stack: Stack, model: str) -> int:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    async with http.post(f"{stack.url}/v1/chat/completions", json=body) as answer:
        return answer.status


async def test_a_node_of_one_model_is_not_asked_for_another_while_their_nodes_part() -> None:
    """The pool of both is called after the first, which keeps it; the second moves to a new one that must get warm."""
    async with Witness() as old, Witness() as new, Stack(node("a", old.port, models=BOTH)) as stack:
        old.health_delay = COLD
        moving = asyncio.create_task(
            stack.apply(node("a", old.port, models=BOTH), node("b", new.port, models=[{"name": "adapter"}]))
        )
        async with aiohttp.ClientSession() as http:
            while not moving.done():
                assert await ask(http, stack, "base") == 200
            await moving
            async with asyncio.timeout(PATIENCE):
                while not new.heard:
                    assert await ask(http, stack, "adapter") == 200
        assert {json.loads(heard.body)["model"] for heard in old.heard} <= {"adapter", "own"}
        assert {json.loads(heard.body)["model"] for heard in new.heard} == {"adapter"}
