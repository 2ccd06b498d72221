"""What every object's status is, what it should be, and what is written next. Pure: the moment is an argument.

Two brakes beside the budget: numbers of one object are written once in a while only, and what every change of
configuration passes through must have lasted before it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge_operator.status_writer.differences import Need, find_need, is_passing, stamp
from weighbridge_operator.status_writer.statuses import Status, Subject

NUMBERS_REST = 15.0  # seconds between two writes of one object's numbers
PASSING = 3.0  # seconds for which "pending" must have lasted
REFUSED_REST = 60.0  # seconds for which a write that was refused is not tried again


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """One write that is to be done."""

    need: Need
    since: float  # the moment at which the object first differed
    subject: Subject


class Ledger:
    """Of one leader. `held` is what the objects have; `offer` says what they should have."""

    def __init__(self) -> None:
        self._held: dict[Subject, Status] = {}
        self._wanted: dict[Subject, Status] = {}
        self._since: dict[Subject, float] = {}  # first seen to differ
        self._passing: dict[Subject, float] = {}  # first seen to be under way
        self._rest: dict[Subject, float] = {}  # no numbers before this moment
        self._refused: dict[Subject, float] = {}  # no write at all before this moment

    def hold(self, held: Mapping[Subject, Status]) -> None:
        """Begins anew with what the objects have, as the API server says."""
        self._held = dict(held)
        for memory in (self._since, self._passing, self._rest, self._refused):
            memory.clear()

    def offer(self, wanted: dict[Subject, Status], now: float) -> list[Due]:
        """Takes what the objects should have and answers the writes, the most urgent first."""
        self._wanted = wanted
        for memory in (self._held, self._since, self._passing, self._rest, self._refused):
            for subject in memory.keys() - wanted.keys():
                del memory[subject]
        return sorted(due for subject in wanted if (due := self._judge(subject, now)) is not None)

    def draw(self, subject: Subject, now: str) -> tuple[Status | None, Status]:
        """What the object has, and what to write: with the times of its conditions, `now` for those that changed."""
        held = self._held.get(subject)
        return held, stamp(held, self._wanted[subject], now)

    def note_written(self, subject: Subject, written: Status, now: float) -> None:
        """The object has it now."""
        self._held[subject] = written
        self._rest[subject] = now + NUMBERS_REST
        self._since.pop(subject, None)

    def note_refused(self, subject: Subject, now: float) -> None:
        """The API server did not take it, and would not take it a moment later."""
        self._refused[subject] = now + REFUSED_REST

    def _judge(self, subject: Subject, now: float) -> Due | None:
        wanted = self._wanted[subject]
        need = find_need(self._held.get(subject), wanted)
        if need is None:
            self._since.pop(subject, None)
            self._passing.pop(subject, None)
            return None
        since = self._since.setdefault(subject, now)
        if now < self._refused.get(subject, now):
            return None
        if not self._has_lasted(subject, wanted, now) and need is not Need.VERDICT:
            return None
        if need is Need.NUMBERS and now < self._rest.get(subject, now):
            return None
        return Due(need, since, subject)

    def _has_lasted(self, subject: Subject, wanted: Status, now: float) -> bool:
        if not is_passing(wanted):
            self._passing.pop(subject, None)
            return True
        return now - self._passing.setdefault(subject, now) >= PASSING
