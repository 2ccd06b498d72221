"""Room that lasting evidence takes: placeholder."""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge_operator.core.memory import NodeMemory
from weighbridge_operator.core.score import Score


def observe(
    nodes: Mapping[str, NodeMemory],
    scores: Mapping[str, Score | None],
    rooms: Mapping[str, float],
    elapsed: float,
    now: float,
) -> Mapping[str, NodeMemory]:
    """Nothing yet."""
    return nodes
