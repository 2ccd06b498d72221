"""The status writer on a real API server: one writes, only on change, on a budget, and whatever dies."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.apiserver import ApiServer, call
from support.reports import make_endpoint
from support.writers import Written, keep, report, score, turn, until
from weighbridge_operator.permissions import OBJECTS, OWN
from weighbridge_operator.report import Report
from weighbridge_operator.status_writer.writer import WRITES_AT_ONCE


@pytest.fixture
def cluster(api_server: ApiServer, namespace: str) -> Iterator[Written]:
    with ExitStack() as running:
        yield Written(api_server, namespace, running)


def test_the_leader_alone_writes_and_only_what_is_new(cluster: Written) -> None:
    nodes = cluster.create("a", "b")
    first, one = cluster.start("one")
    until(lambda: first.leads)
    second, two = cluster.start("two")
    keep([first, second], report(nodes), lambda: len(one.writes) == 2)
    status = cluster.read("a")["status"]
    assert [c["type"] for c in status["conditions"]][-1] == "Ready"
    assert cluster.condition("a")["observedGeneration"] == nodes[0].generation
    assert status["summary"] == {"servers": "1/1", "score": 34, "weight": 16, "share": 57.0, "age": 5}
    began = cluster.condition("a")["lastTransitionTime"]
    # Numbers that flicker write nothing, however long.
    flicker = report([score(node, 34.4 + 2) for node in nodes])
    end = time.monotonic() + 4
    keep([first, second], flicker, lambda: time.monotonic() > end)
    assert len(one.writes) == 2
    faulty = report([turn(nodes[0], false="Programmed", reason="Refused", message="Envoy said no"), nodes[1]])
    keep([first, second], faulty, lambda: len(one.writes) == 3)
    assert one.writes[-1][1].name == "a"
    assert two.writes == []
    until(lambda: cluster.condition("a")["status"] == "False")
    assert cluster.condition("a")["message"] == "Envoy said no"
    assert cluster.condition("a", "Accepted")["lastTransitionTime"] == began


def test_another_takes_over_within_seconds_and_at_once_after_a_clean_end(cluster: Written) -> None:
    nodes = cluster.create("a")
    first, _ = cluster.start("one")
    until(lambda: first.leads)
    second, _ = cluster.start("two")
    third, _ = cluster.start("three")
    # Its thread ends without a word, as with kill -9.
    first._resign = lambda: None  # type: ignore[method-assign]
    first.stop()
    assert keep([second, third], report(nodes), lambda: second.leads or third.leads) < 15
    leader, other = (second, third) if second.leads else (third, second)
    assert cluster.lease()["leaseTransitions"] == 1
    leader.stop()
    assert keep([other], report(nodes), lambda: other.leads) < 5
    until(lambda: cluster.condition("a") != {})


def test_a_new_leader_writes_nothing_again(cluster: Written) -> None:
    nodes = cluster.create("a", "b", "c")
    first, one = cluster.start("one")
    keep([first], report(nodes), lambda: len(one.writes) == 3)
    first.stop()
    second, two = cluster.start("two")
    keep([second], report(nodes), lambda: second.leads)
    end = time.monotonic() + 3
    keep([second], report(nodes), lambda: time.monotonic() > end)
    assert two.writes == []


def test_the_budget_is_kept_and_faults_come_first(cluster: Written) -> None:
    nodes = cluster.create(*(f"n{number:03}" for number in range(90)))
    first, one = cluster.start("one")
    wrong = turn(nodes[-1], false="Accepted", reason="Invalid", message="spec.capacity: must be more than 0")
    keep([first], report([*nodes[:-1], wrong]), lambda: len(one.writes) == 90)
    began = one.writes[0][0]
    assert one.writes[0][1].name == "n089"
    for number, (at, _) in enumerate(one.writes, start=1):
        assert number <= WRITES_AT_ONCE + 10 * (at - began) + 1.5
    assert one.writes[-1][0] - began > 3.5


def test_the_api_server_may_go_away_and_come_back(cluster: Written) -> None:
    nodes = cluster.create("a")
    first, one = cluster.start("one")
    keep([first], report(nodes), lambda: len(one.writes) == 1)
    faulty = report([turn(nodes[0], false="Programmed", reason="Refused", message="no")])
    cluster.server.kill()
    try:
        end = time.monotonic() + 9
        while time.monotonic() < end:
            began = time.monotonic()
            first.offer(faulty)
            # Whoever has something to say never waits.
            assert time.monotonic() - began < 0.5
            time.sleep(0.1)
        assert not first.leads
    finally:
        cluster.server.start()
    assert keep([first], faulty, lambda: len(one.writes) == 2) < 20
    assert cluster.condition("a")["status"] == "False"


def test_ready_tells_an_event_when_it_turns(cluster: Written) -> None:
    nodes = cluster.create("a")
    first, _ = cluster.start("one")
    keep([first], report(nodes), lambda: len(cluster.events()) == 1)
    faulty = report([turn(nodes[0], false="Programmed", reason="Refused", message="Envoy said no")])
    keep([first], faulty, lambda: len(cluster.events()) == 2)
    told = {event["reason"]: event for event in cluster.events()}
    assert told["Ready"]["type"] == "Normal"
    assert (told["Refused"]["type"], told["Refused"]["message"]) == ("Warning", "Envoy said no")
    assert told["Refused"]["involvedObject"]["uid"] == nodes[0].uid


def test_objects_that_are_gone_or_made_anew_disturb_nobody(cluster: Written) -> None:
    nodes = cluster.create("a", "b")
    cluster.delete("a")
    first, one = cluster.start("one")
    keep([first], report(nodes), lambda: len(one.writes) == 1)
    assert one.writes[0][1].name == "b"
    # Another object under the same name: what is known is of the old one.
    cluster.create("a")
    end = time.monotonic() + 2
    keep([first], report(nodes), lambda: time.monotonic() > end)
    assert "status" not in cluster.read("a")


def test_nothing_keeps_an_object_from_being_deleted(cluster: Written) -> None:
    nodes = cluster.create("a")
    first, one = cluster.start("one")
    keep([first], report(nodes), lambda: len(one.writes) == 1)
    first.stop()
    assert cluster.lease()["holderIdentity"] == ""
    assert "finalizers" not in cluster.read("a")["metadata"]
    cluster.delete("a")
    assert (
        cluster.server.request("GET", f"/apis/weighbridge.dev/v1alpha1/namespaces/{cluster.namespace}/modelnodes")[
            "items"
        ]
        == []
    )


def test_servers_stay_sorted_worst_first(cluster: Written) -> None:
    def build(weight: int, *scores: float) -> Report:
        servers = tuple(make_endpoint(weight, name=f"a-{n}", score=value) for n, value in enumerate(scores))
        return report([dataclasses.replace(node, endpoints=servers)])

    (node,) = cluster.create("a")
    first, one = cluster.start("one")
    for weight, scores in ((1, (10.0, 50.0, 90.0)), (2, (90.0, 10.0, 50.0))):
        said, wanted = build(weight, *scores), len(one.writes) + 1
        keep([first], said, lambda wanted=wanted: len(one.writes) == wanted)
        assert [each["score"] for each in cluster.read("a")["status"]["endpoints"]] == [90, 50, 10]


def test_kubectl_shows_what_matters_at_a_glance(cluster: Written) -> None:
    (node,) = cluster.create("a")
    first, one = cluster.start("one")
    keep([first], report([node]), lambda: len(one.writes) == 1)
    path = f"/apis/weighbridge.dev/v1alpha1/namespaces/{cluster.namespace}/modelnodes"
    table = call(cluster.server.api, "GET", path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    names = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    shown = dict(zip([column["name"] for column in table["columnDefinitions"]], table["rows"][0]["cells"], strict=True))
    assert names == ["Name", "Ready", "Servers", "Score", "Weight", "Share", "Metrics-Age", "Reason", "Age"]
    assert [shown[name] for name in names[1:-1]] == ["True", "1/1", 34, 16, 57, 5, "Ready"]


def test_the_rights_that_the_chart_grants_are_enough(cluster: Written, tmp_path: Path) -> None:
    nodes = cluster.create("a")
    cluster.server.write_kubeconfig(tmp_path / "operator", "operator")
    cluster.grant("operator", (*OBJECTS, *OWN))
    first, one = cluster.start("one", tmp_path / "operator")
    keep([first], report(nodes), lambda: len(one.writes) == 1 and len(cluster.events()) == 1)


def test_without_the_right_to_write_it_says_so_once_and_goes_on(
    cluster: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = cluster.create("a", "b")
    cluster.server.write_kubeconfig(tmp_path / "operator", "operator")
    cluster.grant("operator", [p for p in (*OBJECTS, *OWN) if p.resource != "modelnodes/status"])
    first, one = cluster.start("one", tmp_path / "operator")
    keep([first], report(nodes), lambda: first.leads and "may not be written" in caplog.text)
    end = time.monotonic() + 3
    keep([first], report(nodes), lambda: time.monotonic() > end)
    assert one.writes == []
    assert first.leads
    assert caplog.text.count("may not be written") == 1
