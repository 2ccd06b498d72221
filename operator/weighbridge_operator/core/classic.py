"""Classic: placeholder."""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge_operator.core.memory import NodeMemory
from weighbridge_operator.core.score import Score


def shares(
    nodes: Mapping[str, NodeMemory],
    scores: Mapping[str, Score | None],
    rooms: Mapping[str, float],
    elapsed: float,
    now: float,
) -> tuple[Mapping[str, NodeMemory], dict[str, float]]:
    """Nothing yet."""
    return nodes, dict.fromkeys(nodes, 1.0)
