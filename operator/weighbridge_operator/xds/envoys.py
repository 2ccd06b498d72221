"""What is known of the Envoys that are connected to this process: for status only, it never enters a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge_operator.xds.exchange import Exchange
from weighbridge_operator.xds.memory import Refusal
from weighbridge_operator.xds.snapshot import Resource, combine_versions


@dataclass(frozen=True, slots=True)
class KindState:
    """Where one type stands with one Envoy. `wanted` and `accepted` are versions of the whole set."""

    kind: str
    wanted: str
    accepted: str
    refusals: tuple[tuple[str, Refusal], ...]  # resource name, why
    lacking: frozenset[str] = frozenset()  # names of what is wanted and not held in that form

    @property
    def current(self) -> bool:
        return self.wanted == self.accepted


def describe(exchange: Exchange, version: str, wanted: Mapping[str, Resource]) -> KindState:
    """Where the type stands, of which these resources are wanted; together they have this version."""
    return KindState(
        exchange.kind,
        version,
        combine_versions(resource for _, resource in sorted(exchange.held.items())),
        tuple(sorted((name, refusal) for (name, _), refusal in exchange.refused.items())),
        frozenset(name for name, resource in wanted.items() if not exchange.holds(resource)),
    )


@dataclass(frozen=True, slots=True)
class EnvoyState:
    """One connected Envoy. Times are those of the server's clock, in seconds."""

    id: str
    stats: str | None  # base URL of its admin interface, if it told
    build: str  # its version
    since: float
    kinds: tuple[KindState, ...] = ()  # in the order of making; empty until something was offered
    doubt: str | None = None  # why it is not asked where it says that its statistics are
    dataplane: bool = False  # whether it says that one is beside it

    @property
    def current(self) -> bool:
        """Whether it holds all that it was offered."""
        return bool(self.kinds) and all(kind.current for kind in self.kinds)


@dataclass(frozen=True, slots=True)
class EnvoyStates:
    """Every connected Envoy, by id."""

    envoys: tuple[EnvoyState, ...] = ()


@dataclass(frozen=True, slots=True)
class Lack:
    """What an Envoy that is connected to another replica does not hold, in words."""

    text: str
    names: frozenset[str] | None = None  # of clusters and secrets; None: any of them, or what concerns all
    lasting: bool = False  # for longer than a change takes: it refused them
