"""The thread that writes: it campaigns for the Lease, and while it holds it, brings the objects' statuses up to date.

The control plane hands it a report now and then and goes on; whatever the API server does, it does to this thread.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from weighbridge_operator.cluster_api import ApiFault
from weighbridge_operator.report import Report, WriterReport
from weighbridge_operator.status_writer.api import StatusApi
from weighbridge_operator.status_writer.budget import Budget
from weighbridge_operator.status_writer.election import PERIOD, Election
from weighbridge_operator.status_writer.events import Heard, News, build_event, tell_turn
from weighbridge_operator.status_writer.ledger import Due, Ledger
from weighbridge_operator.status_writer.statuses import Subject, Verdicts, build_statuses, list_verdicts

WRITES, WRITES_AT_ONCE = 10.0, 50.0  # statuses a second, of the whole cluster
EVENTS, EVENTS_AT_ONCE = 1.0, 25.0  # events a second
WAITING = 100  # events that wait; beyond them the oldest are dropped
LOOK = 1.0  # seconds between two looks at reports: faster than people read
LOOK_REST = 20  # times as long as a look took, for fleets so large that it takes long
LONGEST_PAUSE = 10.0  # seconds without asking an API server that does not answer
log = logging.getLogger("weighbridge.status")


class StatusWriter:
    """`offer` it reports; `start` and `stop` are the thread's."""

    def __init__(
        self, api: StatusApi, election: Election, *, rate: float = WRITES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api, self._election, self._clock = api, election, clock
        self._writes, self._events = Budget(rate, WRITES_AT_ONCE), Budget(EVENTS, EVENTS_AT_ONCE)
        self._ledger, self._heard = Ledger(), Heard()
        self._due: deque[Due] = deque()
        self._news: deque[News] = deque(maxlen=WAITING)
        self._report: Report | None = None
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._led = False
        self._next_look = self._looked = self._next_campaign = self._paused = float("-inf")
        self._verdicts: Verdicts = {}
        self._pause = 0.0
        self._said: set[tuple[int, str]] = set()
        self._written = self._failed = 0

    def start(self) -> None:
        self._thread.start()

    def offer(self, report: Report) -> None:
        """The newest report replaces one that was not looked at. Never waits."""
        self._report = report
        self._woken.set()

    def stop(self, patience: float = 5.0) -> None:
        """Gives the Lease back, if that can be done in time, and ends."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(patience)

    @property
    def leads(self) -> bool:
        """Whether this replica writes now."""
        return self._election.leads(self._clock())

    def describe(self) -> WriterReport:
        """How it goes."""
        return WriterReport(self.leads, self._election.holder, self._written, self._failed, len(self._due))

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._step()
            except ApiFault as fault:
                self._back_off(fault)
            except Exception:
                # A fault of ours costs a status, never a weight.
                log.exception("writing statuses failed and goes on")
                self._paused = self._clock() + LONGEST_PAUSE
            self._woken.wait(self._find_rest())
            self._woken.clear()
        self._resign()

    def _step(self) -> None:
        """One piece of work: a campaign when it is due, else one event and one status."""
        now = self._clock()
        if now < self._paused:
            return
        if now >= self._next_campaign:
            self._campaign(now)
        self._look()
        if self._news and self._events.spend(self._clock()):
            self._publish(self._news.popleft())
        if self._led and self._due and self.leads and self._writes.spend(self._clock()):
            self._write(self._due.popleft())
        self._pause = 0.0

    def _find_rest(self) -> float:
        now = self._clock()
        if now < self._paused:
            return self._paused - now
        rest = self._next_campaign - now
        if self._report is not None:
            rest = min(rest, self._looked + LOOK - now)
        if self._news:
            rest = min(rest, self._events.wait(now))
        if self._led and self._due:
            rest = min(rest, self._writes.wait(now))
        return max(0.0, rest)

    def _campaign(self, now: float) -> None:
        self._next_campaign = now + PERIOD
        election = self._election
        if not election.leads(now):
            election.observe(self._api.read_lease(election), self._clock())
        proposed = election.propose(self._clock(), _print_time())
        if proposed is not None:
            sent = self._clock()
            won = self._api.write_lease(election, proposed)
            if won is None:
                election.lose()
                self._next_campaign = now
            else:
                election.win(won, sent)
        self._follow()

    def _follow(self) -> None:
        """What changes with the Lease: a new leader begins with what the objects have."""
        leads = self.leads
        if leads and not self._led:
            self._ledger.hold(self._api.read_statuses())
            self._next_look = self._looked = float("-inf")
            log.info("this replica writes the objects' status now")
        elif self._led and not leads:
            self._due.clear()
            log.info("another replica writes the objects' status now")
        self._led = leads

    def _look(self) -> None:
        now, report = self._clock(), self._report
        if report is None or now < self._looked + LOOK:
            return
        self._report = None
        verdicts = list_verdicts(report)
        # Who has just written an object waits for the verdict; all else has time.
        if now < self._next_look and verdicts == self._verdicts:
            return
        self._looked, self._verdicts = now, verdicts
        self._news.extend(self._heard.take_new(report, now))
        # Before anything is published there is nothing true to say.
        if self._led and report.version is not None:
            self._due = deque(self._ledger.offer(build_statuses(report), now))
        self._next_look = now + LOOK_REST * (self._clock() - now)

    def _write(self, due: Due) -> None:
        subject = due.subject
        before, status = self._ledger.draw(subject, _print_time(whole=True))
        try:
            self._api.apply(subject, status)
        except ApiFault as fault:
            if not _is_of_object(fault):
                self._due.appendleft(due)
                raise
            self._refuse(subject, fault)
            return
        self._written += 1
        self._ledger.note_written(subject, status, self._clock())
        if news := tell_turn(subject, before, status):
            self._news.append(news)

    def _refuse(self, subject: Subject, fault: ApiFault) -> None:
        """The object is gone (404), was made anew (409), or we may not, or should not have: the others go on."""
        self._ledger.note_refused(subject, self._clock())
        if fault.status == 403:
            self._say_once(fault, f"the status of {subject.kind}s may not be written")
        elif fault.status not in (404, 409):
            self._say_once(fault, f"the status of {subject.kind} {subject.namespace}/{subject.name} is not written")

    def _publish(self, news: News) -> None:
        name = f"{news.subject.name[:200].rstrip('-.')}.{secrets.token_hex(8)}"
        path, event = build_event(news, self._election.identity, name, _print_time())
        try:
            self._api.post(path, event)
        except ApiFault as fault:
            if not _is_of_object(fault):
                raise
            self._say_once(fault, "events are not published")

    def _back_off(self, fault: ApiFault) -> None:
        self._next_campaign = float("-inf")  # the first question when it answers again: do we still hold the Lease?
        self._pause = min(LONGEST_PAUSE, max(PERIOD / 2, 2 * self._pause))
        self._paused = self._clock() + self._pause * (0.75 + secrets.randbelow(500) / 1000)
        self._say_once(fault, "statuses wait")
        if self._led and not self.leads:
            self._led = False
            self._due.clear()

    def _resign(self) -> None:
        try:
            lease = self._election.resign(_print_time())
            if lease is not None:
                self._api.write_lease(self._election, lease)
        except ApiFault as fault:
            log.debug("the Lease runs out by itself: %s", fault)

    def _say_once(self, fault: ApiFault, what: str) -> None:
        self._failed += 1
        known = (fault.status, what if fault.status else "")
        if known not in self._said:
            self._said.add(known)
            log.warning("%s: %s", what, fault)
        if len(self._said) > 1000:
            self._said.clear()


def _is_of_object(fault: ApiFault) -> bool:
    """Whether the answer concerns this one call alone, so that others may go on."""
    return fault.status in (403, 404, 409, 422) or (400 <= fault.status < 429 and fault.status != 401)


def _print_time(*, whole: bool = False) -> str:
    """Now, as the API server takes it: whole seconds for conditions, microseconds elsewhere."""
    now = datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ" if whole else "%Y-%m-%dT%H:%M:%S.%fZ")
