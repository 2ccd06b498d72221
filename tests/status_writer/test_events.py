"""What is told as an event, by whom, and how often."""

from __future__ import annotations

import dataclasses

from support.reports import NACK, make_endpoint, make_envoy, make_node, make_report
from weighbridge_operator.report import Report
from weighbridge_operator.status_writer.events import LONGEST, REPEAT, Heard, build_event, tell_turn
from weighbridge_operator.status_writer.statuses import Status, Subject, build_statuses

A = Subject("ModelNode", "default", "a")


def status(**faults: str) -> Status:
    return build_statuses(make_report((make_node("a", make_endpoint(), **faults),)))[A]


def refused(*, connected: bool) -> Report:
    """A node that an Envoy refused; the Envoy told it to this replica, or to another one."""
    envoy = make_envoy("envoy-1", "LDS" if connected else "")
    text = f"Envoy envoy-1 refused LDS entrance: {NACK.partition(': ')[2]}"
    node = make_node("a", make_endpoint(), false="Programmed", reason="Refused", message=text)
    return make_report((node,), (envoy,))


def test_a_turn_of_ready_is_told_and_nothing_else() -> None:
    well, ill = status(), status(false="MetricsFresh", reason="Stale", message="no numbers for 12 s")
    told = tell_turn(A, well, ill)
    assert told is not None
    assert (told.reason, told.note, told.good) == ("Stale", "no numbers for 12 s", False)
    assert tell_turn(A, ill, ill) is None
    back = tell_turn(A, ill, well)
    assert back is not None
    assert back.good


def test_what_every_change_passes_through_is_no_event() -> None:
    assert tell_turn(A, status(), status(false="Programmed", reason="Pending")) is None
    assert tell_turn(A, None, status(false="Programmed", reason="NoEnvoy")) is None


def test_who_heard_a_refusal_tells_it_once_and_again_after_a_while() -> None:
    heard = Heard()
    (news,) = heard.take_new(refused(connected=True), 0.0)
    assert (news.subject, news.reason, news.good) == (A, "Refused", False)
    assert "refused LDS entrance" in news.note
    assert heard.take_new(refused(connected=True), 1.0) == []
    assert len(heard.take_new(refused(connected=True), REPEAT)) == 1


def test_who_did_not_hear_it_does_not_tell_it() -> None:
    assert Heard().take_new(refused(connected=False), 0.0) == []


def test_notes_are_bounded_as_the_api_wants_it() -> None:
    (news,) = Heard().take_new(refused(connected=True), 0.0)
    long = tell_turn(A, status(), status(false="Accepted", reason="Invalid", message="ß" * 5000))
    assert long is not None
    path, event = build_event(dataclasses.replace(news, note=long.note), "one", "a.1", "2026-01-01T00:00:00.000000Z")
    assert path == "/apis/events.k8s.io/v1/namespaces/default/events"
    assert len(event["note"].encode()) == LONGEST
