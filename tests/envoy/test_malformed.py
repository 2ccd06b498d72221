"""Malformed requests of every endpoint: refused in its shape, quickly, no node asked. More: `make bench-malformed`."""

from __future__ import annotations

from typing import Any

import pytest

from support.malformed import MODEL, draw
from support.onslaught import Outcome, read_memory, send_all
from support.stack import Stack, node
from support.witness import Witness

pytestmark = pytest.mark.envoy
TYPES = ["text", "embedding", "image", "audio", "rerank"]


def serve(port: int) -> list[dict[str, Any]]:
    """Each API, each type, and two models, so that none is a default; half of them renamed."""
    models = [{"name": MODEL, "types": TYPES, "servedAs": "own"}, {"name": "n", "types": TYPES}]
    texts = [{"name": MODEL}, {"name": "n", "servedAs": "own"}]
    return [
        node("openai", port, models=models),
        node("anthropic", port, models=texts, format="anthropic"),
        node("gemini", port, models=texts, format="gemini"),
    ]


async def test_malformed_requests_are_refused_and_leave_nothing_behind() -> None:
    async with Witness() as witness, Stack(*serve(witness.port)) as stack:
        process = stack.envoys[0].process
        outcome = Outcome()
        await send_all(stack, draw(1, 300), outcome)
        before = read_memory(stack)
        await send_all(stack, draw(2, 900), outcome)
        assert outcome.odd == []
        assert len(outcome.seconds) == 1200
        assert witness.heard == []
        assert process is not None
        assert process.returncode is None
        assert read_memory(stack) - before < 40 << 20
        # Ten times what is promised, because others work on this machine.
        assert sorted(outcome.seconds)[-5] < 0.5, outcome.worst
