"""What is known of one Envoy from its earlier streams: values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weighbridge_operator.xds.snapshot import Resource

Content = tuple[str, str]  # name, version


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an Envoy refused one content, in its own words, and when (the caller's clock)."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one Envoy thinks of the contents of one type that it was shown and that are still wanted."""

    refused: Mapping[Content, Refusal] = field(default_factory=dict)
    doubts: Mapping[Content, int] = field(default_factory=dict)  # seen in a refused group -> how many to try together
    refused_sets: Mapping[str, Refusal] = field(default_factory=dict)  # by version


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of one Envoy from its earlier streams. A type that is absent in `held` is unknown."""

    held: Mapping[str, Mapping[str, Resource]] = field(default_factory=dict)
    warm: frozenset[str] = frozenset()
    verdicts: Mapping[str, Verdicts] = field(default_factory=dict)
    #: By type, of what is in `held`: which version the Envoy said last, and those that it was told since. One that is
    #: absent is unknown.
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Routes whose acknowledgement was lost with the stream: the Envoy may hold them.
    perhaps: tuple[Resource, ...] = ()

    def is_stale(self, kind: str, version: str) -> bool:
        """Whether an Envoy that says this version of a type was told more, by another operator."""
        return kind in self.versions and version not in self.versions[kind]
