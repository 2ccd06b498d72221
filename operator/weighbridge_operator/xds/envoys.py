"""What is known of the Envoys that are connected to this process: for status only, it never enters a plan."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge_operator.xds.ads import KindState


@dataclass(frozen=True, slots=True)
class EnvoyState:
    """One connected Envoy. Times are those of the server's clock, in seconds."""

    id: str
    stats: str | None  # base URL of its admin interface, if it told
    build: str  # its version
    since: float
    kinds: tuple[KindState, ...] = ()  # in the order of making; empty until something was offered

    @property
    def current(self) -> bool:
        """Whether it holds all that it was offered."""
        return bool(self.kinds) and all(kind.current for kind in self.kinds)


@dataclass(frozen=True, slots=True)
class EnvoyStates:
    """Every connected Envoy, by id."""

    envoys: tuple[EnvoyState, ...] = ()
