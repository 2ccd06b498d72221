"""How many requests each server got, since the Envoys began and lately, from what the Envoys count."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge_operator.core import ir
from weighbridge_operator.sources.envoys import EnvoyRound, spell
from weighbridge_operator.sources.targets import list_owners
from weighbridge_operator.state import LoadRound

WINDOW = 10.0  # seconds over which shares of requests are counted
PROBATION = 10.0  # seconds in service after which an outage is over: an ejection ends to see whether it is

Totals = Mapping[tuple[str, str], int]  # (pool, node) -> requests since the start of the Envoys


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the Envoys count, by (pool, node)."""

    total: Totals
    recent: Totals
    active: Totals | None
    healthy: Mapping[tuple[str, str], bool]
    sent: Mapping[str, int]  # recent, by pool
    down: Mapping[tuple[str, str], float]  # of those out of service: for how many seconds they have been


class Tally:
    """Remembers the totals of the last seconds, and since when who is out of service."""

    def __init__(self) -> None:
        self._history: deque[tuple[float, Totals]] = deque()
        self._outages: dict[tuple[str, str], tuple[float, float]] = {}  # when it began, when it was last seen

    def take(self, gateway: ir.Gateway, answered: EnvoyRound, counted: LoadRound | None, now: float) -> Traffic:
        """The traffic of this moment, in seconds on the caller's clock."""
        owners = {(spell(cluster), address): owner for (cluster, address), owner in list_owners(gateway).items()}
        total: dict[tuple[str, str], int] = dict.fromkeys(owners.values(), 0)
        healthy: dict[tuple[str, str], bool] = {}
        for state in answered.states.values():
            for endpoint, owner in owners.items():
                total[owner] += state.total.get(endpoint, 0)
                healthy[owner] = healthy.get(owner, True) and state.healthy.get(endpoint, True)
        self._remember(total, now)
        before = self._history[0][1]
        recent = {owner: max(0, count - before.get(owner, 0)) for owner, count in total.items()}
        sent: Counter[str] = Counter()
        for (pool, _), count in recent.items():
            sent[pool] += count
        down = self._follow_outages(healthy, now)
        return Traffic(total, recent, counted.inflight if counted else None, healthy, sent, down)

    def _follow_outages(self, healthy: Mapping[tuple[str, str], bool], now: float) -> dict[tuple[str, str], float]:
        recent = {owner: each for owner, each in self._outages.items() if now - each[1] < PROBATION}
        down = {owner: (recent.get(owner, (now, now))[0], now) for owner, up in healthy.items() if not up}
        self._outages = recent | down
        return {owner: now - began for owner, (began, _) in down.items()}

    def _remember(self, total: Totals, now: float) -> None:
        self._history.append((now, total))
        while len(self._history) > 1 and self._history[1][0] <= now - WINDOW:
            self._history.popleft()
