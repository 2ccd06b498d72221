"""One node's numbers at one instant, as its pages or a Prometheus tell them.

Absent is not zero: a signal that a node did not report is None and stays None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: The source of what a node prints itself.
SCRAPE: Final = "scrape"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a number comes from that is not of its sample's own source and instant."""

    source: str
    at: float  # seconds, as LoadSample.at
    until: float  # seconds; too old from then on


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One node's numbers at one instant. Shares are 0..1; counters only ever rise, unless the node restarted."""

    node: str  # "namespace/name"
    at: float  # seconds, the monotonic clock of the process; the instant of the numbers themselves
    source: str = SCRAPE
    waiting: float | None = None  # requests queued in the engine
    running: float | None = None  # requests being worked on
    kv: float | None = None  # share of KV cache in use
    cpu: float | None = None
    memory: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None
    latency: float | None = None  # seconds, mean time to first token since the previous sample
    generated_tokens: float | None = None  # counter
    prompt_tokens: float | None = None  # counter
    steps: float | None = None  # counter of an engine whose tokens count at the end of an answer: its sign of life
    room_tokens: float | None = None  # KV capacity that the engine publishes, in tokens
    error: str | None = None  # why numbers are missing, in words
    lasts: float | None = None  # seconds that its numbers may be used, where their source knows it
    #: By signal, for those that are of another source or instant than the rest.
    origins: Mapping[str, Origin] = field(default_factory=dict)
