"""Malformed requests of every endpoint: refused in its shape, quickly, no node asked. More: `make bench-malformed`."""

from __future__ import annotations

import pytest

from support.malformed import draw, make_nodes
from support.onslaught import Outcome, read_memory, send_all
from support.stack import Stack
from support.witness import Witness

pytestmark = pytest.mark.envoy


async def test_malformed_requests_are_refused_and_leave_nothing_behind() -> None:
    async with Witness() as witness, Stack(*make_nodes(witness.port)) as stack:
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
