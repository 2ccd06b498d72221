"""What is each engine's own: where it tells of health and load, and which of the law's inputs it publishes.

How its numbers are read is in weighbridge_metrics/engines.py. Triton is asked through its OpenAI frontend, which also
prints the metrics and says whether it is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from weighbridge_api.metrics import LoadSignal
from weighbridge_api.modelnode import Engine, ModelNodeSpec


@dataclass(frozen=True, slots=True)
class Habits:
    """An engine's defaults. Paths are of the port that takes requests; None: it has none that we know of."""

    health: str | None
    metrics: str | None
    #: Of what the law asks for, by the names that users have for signals.
    publishes: frozenset[LoadSignal] = frozenset()


#: What the law of the llm profile can not do without.
COUNTS: Final[frozenset[LoadSignal]] = frozenset({"queue", "running"})
_COUNTS_AND_ROOM: Final[frozenset[LoadSignal]] = COUNTS | {"kv", "roomTokens"}

HABITS: Final[Mapping[Engine, Habits]] = {
    "vllm": Habits("/health", "/metrics", _COUNTS_AND_ROOM),
    "sglang": Habits("/health", "/metrics", _COUNTS_AND_ROOM),
    "tgi": Habits("/health", "/metrics", _COUNTS_AND_ROOM),
    "triton": Habits("/health/ready", "/metrics", _COUNTS_AND_ROOM),
    "llamacpp": Habits("/health", "/metrics", COUNTS),
    "openai": Habits(None, None),
    "custom": Habits(None, "/metrics"),
}


def list_published(spec: ModelNodeSpec) -> frozenset[LoadSignal]:
    """What a node publishes for the law, by its engine or by what its user names."""
    mapping = spec.metrics.mapping if spec.metrics else None
    return HABITS[spec.engine].publishes | frozenset(mapping or ())
