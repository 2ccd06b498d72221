"""What of a benchmark runs at the same time: what keeps the processors as busy as FULL, as the runs before tell.

How much a machine carries is not known beforehand, and changes by the minute where it has neighbours. So the first runs
go by what `machine` says of its speed, and each after them by how busy the processors were in those before.
"""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge_comparison.setting import Setting

FULL = 0.7  # of the processors' time, which is aimed at; above it requests wait for them, through whichever gateway
MUCH = 0.85  # where what was measured side by side tells more of the machine than of the gateways

Run = tuple[Setting, int]  # a setting with one of its seeds
Group = list[Run]  # run at once


def list_runs(settings: Sequence[Setting]) -> list[Run]:
    """Every setting with every seed, first seeds first."""
    most = max((len(setting.fleet.seeds) for setting in settings), default=0)
    return [(one, one.fleet.seeds[n]) for n in range(most) for one in settings if n < len(one.fleet.seeds)]


class Plan:
    """The runs that are still to come, through so many `gateways` each.

    `most`: requests a second over all gateways at once, never more. `idle` is how many of them cost as much as one
    Envoy without any. `first`: the part of `most` that the first runs are given.
    """

    def __init__(self, runs: Sequence[Run], gateways: int, most: float, idle: float = 0.0, first: float = 1.0) -> None:
        self._runs = list(runs)
        # Once: how much conversations ask is found by drawing them.
        settings = {setting.title: setting for setting, _ in runs}
        self._costs = {name: gateways * (one.busiest + idle * one.fleet.envoys) for name, one in settings.items()}
        self._most, self._now = most, most * first
        self._much: list[Group] = []  # what was too much at once

    def __bool__(self) -> bool:
        return bool(self._runs)

    def list_groups(self) -> list[Group]:
        """What would run at once from now on: together no more than is carried, and for the same time.

        A run that is more by itself runs alone.
        """
        groups: list[Group] = []
        for run in self._runs:
            for them in groups:
                fits = self._cost([*them, run]) <= self._now and not self._is_much([*them, run])
                if fits and them[0][0].fleet.duration == run[0].fleet.duration:
                    them.append(run)
                    break
            else:
                groups.append([run])
        return groups

    def take(self) -> Group:
        """The next group, which is then no longer to come."""
        them = self.list_groups()[0]
        self._runs = [run for run in self._runs if run not in them]
        return them

    def note_busy(self, them: Group, busy: float) -> None:
        """These kept the processors busy for that part of their time."""
        carried = self._cost(them) * FULL / max(busy, 0.01)
        self._now = min(self._most, (self._now + carried) / 2)

    def put_back(self, them: Group) -> None:
        """These were too much at once: they come last, in groups of half their cost, and never together again."""
        self._runs += them
        self._much.append(them)
        self._now = min(self._now, self._cost(them) / 2)

    def _is_much(self, them: Group) -> bool:
        return any(all(run in them for run in group) for group in self._much)

    def _cost(self, them: Group) -> float:
        return sum(self._costs[setting.title] for setting, _ in them)
