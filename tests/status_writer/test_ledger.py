"""What is written, what is not, and in which order."""

from __future__ import annotations

import dataclasses

import pytest

from support.reports import make_endpoint, make_node, make_report
from weighbridge_api.conditions import ModelNodeStatus, RoutePolicyStatus
from weighbridge_operator.report import ObjectReport, PoolReport, Report
from weighbridge_operator.status_writer.budget import Budget
from weighbridge_operator.status_writer.differences import Need, find_need
from weighbridge_operator.status_writer.ledger import NUMBERS_REST, PASSING, REFUSED_REST, Ledger
from weighbridge_operator.status_writer.statuses import Status, Subject, build_statuses


def statuses(*nodes: ObjectReport) -> dict[Subject, Status]:
    return {s: status for s, status in build_statuses(make_report(nodes)).items() if s.kind == "ModelNode"}


def one(**fields: object) -> dict[Subject, Status]:
    return statuses(make_node("a", make_endpoint(**fields)))  # type: ignore[arg-type]


def written(wanted: dict[Subject, Status], now: float = 0.0) -> Ledger:
    """A ledger whose objects have all of it."""
    ledger = Ledger()
    for due in ledger.offer(wanted, now):
        ledger.note_written(due.subject, ledger.draw(due.subject, "t0")[1], now)
    return ledger


def needs(ledger: Ledger, wanted: dict[Subject, Status], now: float) -> list[tuple[Need, str]]:
    return [(due.need, due.subject.name) for due in ledger.offer(wanted, now)]


def test_statuses_are_what_the_crds_take() -> None:
    pool = PoolReport("p", "llm", True, 31.4, None, ("default/a", "default/b"), 0)
    policy = dataclasses.replace(make_node("chat"), kind="RoutePolicy", pools=("p", "gone"))
    node = make_node("a", make_endpoint(name="a-0"), make_endpoint(name="a-1", score=None, age=None, healthy=None))
    report: Report = dataclasses.replace(make_report((node,)), objects=(node, policy), pools=(pool,))
    made = build_statuses(report)
    ModelNodeStatus.model_validate(made[Subject("ModelNode", "default", "a")], by_alias=True)
    said = made[Subject("RoutePolicy", "default", "chat")]
    RoutePolicyStatus.model_validate(said, by_alias=True)
    assert said["pools"] == [{"name": "p", "profile": "llm", "servers": 2, "load": 31}]


def test_servers_are_listed_worst_first_and_bounded() -> None:
    servers = [make_endpoint(name=f"a-{n:03}", score=float(n % 90), healthy=n != 7, address="x") for n in range(150)]
    (status,) = statuses(make_node("a", *servers)).values()
    listed = [each["server"] for each in status["endpoints"]]
    assert len(listed) == 100
    assert listed[:2] == ["a-007", "a-089"]
    assert status["summary"]["servers"] == "149/150"
    assert status["summary"]["score"] == 89


@pytest.mark.parametrize(
    ("change", "need"),
    [
        ({}, None),
        ({"score": 38.0, "age": 4.9, "request_share": 59.0}, None),
        ({"reason": "other words"}, None),
        ({"score": 39.0}, Need.NUMBERS),
        ({"score": None, "parts": ()}, Need.NUMBERS),
        ({"age": 6.0}, Need.NUMBERS),
        ({"request_share": 70.0}, Need.NUMBERS),
        ({"weight": 17}, Need.CHANGE),
        ({"healthy": False}, Need.CHANGE),
        ({"address": "127.0.0.1:18002"}, Need.CHANGE),
    ],
)
def test_what_flickers_is_not_written_and_what_moves_is(change: dict[str, object], need: Need | None) -> None:
    held = written(one())
    found = needs(held, one(**change), 100.0)
    assert found == ([(need, "a")] if need is not None else [])


def test_a_drift_is_written_when_it_has_gone_far_enough() -> None:
    ledger = written(one(score=30.0))
    assert [bool(needs(ledger, one(score=30.0 + step), 100.0 + step)) for step in range(7)] == [False] * 5 + [True] * 2


def test_messages_that_differ_in_numbers_alone_are_the_same() -> None:
    def said(seconds: int) -> dict[Subject, Status]:
        return statuses(make_node("a", false="MetricsFresh", reason="Stale", message=f"no numbers for {seconds} s"))

    ledger = written(said(12))
    assert needs(ledger, said(13), 1.0) == []
    assert needs(ledger, statuses(make_node("a", false="MetricsFresh", reason="Stale", message="refused")), 1.0) != []


def test_numbers_of_one_object_rest_between_writes_and_the_rest_does_not() -> None:
    ledger = written(one(), now=0.0)
    assert needs(ledger, one(score=80.0), NUMBERS_REST - 1) == []
    assert needs(ledger, one(score=80.0), NUMBERS_REST) == [(Need.NUMBERS, "a")]
    assert needs(ledger, one(weight=99), 1.0) == [(Need.CHANGE, "a")]


def test_verdicts_come_first_then_readiness_then_weights_then_numbers() -> None:
    names = ("number", "weight", "ready", "lost", "wrong", "mended")
    before = [make_node(name, make_endpoint()) for name in names]
    before[2] = make_node("ready", make_endpoint(), false="Programmed", reason="Refused")
    before[5] = make_node("mended", make_endpoint(), false="Accepted", reason="Invalid")
    ledger = written(statuses(*before))
    after = statuses(
        make_node("number", make_endpoint(score=90.0)),
        make_node("weight", make_endpoint(weight=1)),
        make_node("ready", make_endpoint()),
        make_node("lost", make_endpoint(), false="Programmed", reason="Refused"),
        make_node("wrong", make_endpoint(), false="Accepted", reason="Invalid"),
        make_node("mended", make_endpoint()),
    )
    order = [name for _, name in needs(ledger, after, 100.0)]
    assert order == ["mended", "wrong", "lost", "ready", "weight", "number"]


def test_what_every_change_passes_through_is_written_only_if_it_lasts() -> None:
    ledger = written(one())
    pending = statuses(make_node("a", make_endpoint(), false="Programmed", reason="Pending"))
    assert needs(ledger, pending, 10.0) == []
    assert needs(ledger, one(), 11.0) == []
    assert needs(ledger, pending, 12.0) == []
    assert needs(ledger, pending, 12.0 + PASSING) == [(Need.LOST, "a")]


def test_times_of_conditions_change_with_their_status_alone() -> None:
    ledger = written(one())
    (subject,) = ledger.offer(statuses(make_node("a", make_endpoint(), false="Programmed", reason="Refused")), 9.0)
    _, status = ledger.draw(subject.subject, "t9")
    times = {each["type"]: each["lastTransitionTime"] for each in status["conditions"]}
    assert times == dict.fromkeys(("Accepted", "ResolvedRefs", "MetricsFresh"), "t0") | {
        "Programmed": "t9",
        "Ready": "t9",
    }


def test_what_was_refused_rests_and_what_is_gone_is_forgotten() -> None:
    ledger = Ledger()
    (due,) = ledger.offer(one(), 0.0)
    ledger.note_refused(due.subject, 0.0)
    assert ledger.offer(one(), 1.0) == []
    assert len(ledger.offer(one(), REFUSED_REST)) == 1
    ledger.note_written(due.subject, ledger.draw(due.subject, "t")[1], 0.0)
    ledger.offer({}, 1.0)
    assert len(ledger.offer(one(), 2.0)) == 1


def test_another_generation_is_news() -> None:
    (subject, before), *_ = one().items()
    node = dataclasses.replace(make_node("a", make_endpoint()), generation=2)
    assert find_need(before, statuses(node)[subject]) is Need.READY


def test_a_verdict_on_what_the_user_wrote_waits_for_nothing() -> None:
    ledger = written(one())
    node = make_node("a", make_endpoint(), false="Accepted", reason="Pending")
    assert needs(ledger, statuses(node), 1.0) == [(Need.VERDICT, "a")]


def test_a_budget_gives_its_burst_and_then_its_rate() -> None:
    budget = Budget(rate=10.0, burst=5.0)
    assert [budget.spend(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.wait(0.0) == pytest.approx(0.1)
    assert budget.spend(0.1)
    assert not budget.spend(0.15)
    assert sum(budget.spend(1000.0) for _ in range(100)) == 5
