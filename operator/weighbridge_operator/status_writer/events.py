"""Events on objects: that Ready changed (told by the leader), and what an Envoy answered (told by who heard it).

An Envoy's refusal reaches the one replica that it talks to; the others know that it lacks a version and not why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from weighbridge_api.base import API_VERSION
from weighbridge_api.conditions import PROGRAMMED, READY
from weighbridge_operator.report import Report
from weighbridge_operator.status_writer.differences import PASSING
from weighbridge_operator.status_writer.statuses import Status, Subject

CONTROLLER = "weighbridge.dev/operator"
REFUSED = "Refused"
REPEAT = 600.0  # seconds after which the same refusal is told again
LONGEST = 1024  # bytes of a note, as the API has it
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class News:
    """One event to publish."""

    subject: Subject
    reason: str
    note: str
    good: bool


def tell_turn(subject: Subject, before: Status | None, after: Status) -> News | None:
    """What is to be told when `after` replaces `before`: that Ready changed, or why it is still false."""
    old, new = _find(before, READY), _find(after, READY)
    if new is None or new["reason"] in PASSING:
        return None
    if old is not None and (old["status"], old["reason"]) == (new["status"], new["reason"]):
        return None
    good = new["status"] == "True"
    note = "serves" if good else new["message"] or "is not ready"
    return News(subject, new["reason"], note, good)


def find_refusals(report: Report) -> Iterator[News]:
    """What Envoys said to this replica, by object."""
    heard = [kind.error for envoy in report.envoys for kind in envoy.kinds if kind.error]
    if not heard:
        return
    texts = [part.partition(": ")[2] for error in heard for part in error.split("; ")]
    for known in report.objects:
        for condition in known.conditions:
            if condition.type == PROGRAMMED and any(text and text in condition.message for text in texts):
                subject = Subject(known.kind, known.namespace, known.name, known.uid)
                yield News(subject, REFUSED, condition.message, False)


class Heard:
    """Which refusals were told lately, so that each is told once. The moment is an argument."""

    def __init__(self) -> None:
        self._until: dict[tuple[Subject, str], float] = {}

    def take_new(self, report: Report, now: float) -> list[News]:
        """Those that were not told yet."""
        self._until = {key: until for key, until in self._until.items() if now < until}
        fresh = [news for news in find_refusals(report) if (news.subject, _blur(news.note)) not in self._until]
        self._until |= {(news.subject, _blur(news.note)): now + REPEAT for news in fresh}
        return fresh


def build_event(news: News, identity: str, name: str, clock: str) -> tuple[str, dict[str, Any]]:
    """The path to post to, and the event. `name` is unique; `clock` is RFC 3339 with microseconds."""
    subject = news.subject
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": subject.namespace},
        "eventTime": clock,
        "reportingController": CONTROLLER,
        "reportingInstance": identity[:128],
        "action": "Judge",
        "reason": news.reason,
        "note": news.note.encode()[:LONGEST].decode(errors="ignore"),
        "type": "Normal" if news.good else "Warning",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
    }
    return f"/apis/events.k8s.io/v1/namespaces/{subject.namespace}/events", event


def _find(status: Status | None, kind: str) -> dict[str, str] | None:
    return next((each for each in (status or {}).get("conditions", ()) if each["type"] == kind), None)


def _blur(text: str) -> str:
    return _NUMBER.sub("#", text)
