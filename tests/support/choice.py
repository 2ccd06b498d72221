"""Asking through a gateway whose data plane is an Oracle, and what is named there."""

from __future__ import annotations

import json
from collections.abc import Mapping

import aiohttp

from support.oracle import Oracle
from support.stack import Stack

CHOSEN, ASKED_MOST = 10, 200


async def ask(stack: Stack, model: str = "m", **headers: str) -> tuple[int, Mapping[str, str]]:
    body = {"model": model, "messages": []}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        await answer.read()
        return answer.status, answer.headers


async def reach(oracle: Oracle, stack: Stack) -> None:
    """Asks until Envoy's health check has found the data plane."""
    while not oracle.asked:
        await ask(stack)
    oracle.asked.clear()


async def name_by_choice(stack: Stack, **headers: str) -> set[str]:
    """The nodes of ten answers that were chosen; on a busy machine some time out, and then the weights serve."""
    named: list[str] = []
    for _ in range(ASKED_MOST):
        told = (await ask(stack, **headers))[1]
        if told.get("x-weighbridge-choice") == "precise":
            named.append(told["x-weighbridge-node"])
        if len(named) == CHOSEN:
            return set(named)
    raise AssertionError(f"{len(named)} of {ASKED_MOST} answers were chosen")


def cluster_of(stack: Stack, node_name: str) -> str:
    resolved = stack.loop.resolved
    assert resolved is not None
    owners = stack.loop._owners
    return next(cluster for (cluster, _), (__, name) in owners.items() if name.endswith(f"/{node_name}"))


async def find_ways(oracle: Oracle, stack: Stack) -> dict[str, str]:
    """What to name for a node of each cluster, by what the data plane is told."""
    while not oracle.asked:
        await ask(stack)
    (attributes,) = oracle.asked[-1].attributes.values()
    (told,) = (json.loads(value.string_value) for value in attributes.fields.values())
    return dict(zip(told["clusters"], told["via"], strict=True))
