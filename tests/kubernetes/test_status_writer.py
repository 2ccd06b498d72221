"""The status writer on a real API server: one writes, only on change, on a budget, and whatever dies."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.apiserver import ApiServer, locate
from support.corpus import build_node
from support.reports import make_endpoint, make_node, make_report
from weighbridge_operator.cluster_api import ClusterApi
from weighbridge_operator.report import ObjectReport, Report
from weighbridge_operator.status_writer.api import StatusApi
from weighbridge_operator.status_writer.election import Election
from weighbridge_operator.status_writer.statuses import Status, Subject
from weighbridge_operator.status_writer.writer import WRITES_AT_ONCE, StatusWriter

LIMIT = 30.0  # seconds; a busy machine


class Counted(StatusApi):
    """Counts what is written, and when."""

    def __init__(self, api: ClusterApi, watch: tuple[str, ...]) -> None:
        super().__init__(api, watch)
        self.writes: list[tuple[float, Subject]] = []

    def apply(self, subject: Subject, status: Status) -> None:
        super().apply(subject, status)
        self.writes.append((time.monotonic(), subject))


class Cluster:
    """A namespace with nodes, and the writers of some replicas."""

    def __init__(self, server: ApiServer, namespace: str, running: ExitStack) -> None:
        self.server, self.namespace, self._running = server, namespace, running

    def create(self, *names: str) -> list[ObjectReport]:
        """Nodes of these names, and what a report says of them: all is well."""
        return [self._create(name) for name in names]

    def start(self, identity: str) -> tuple[StatusWriter, Counted]:
        api = Counted(ClusterApi.connect(str(self.server.kubeconfig)), (self.namespace,))
        writer = StatusWriter(api, Election("weighbridge", self.namespace, identity))
        writer.start()
        self._running.callback(writer.stop)
        return writer, api

    def read(self, name: str) -> dict[str, Any]:
        return self.server.request("GET", self._locate(name))

    def condition(self, name: str, kind: str = "Ready") -> dict[str, Any]:
        found = self.read(name).get("status", {}).get("conditions", ())
        return next((each for each in found if each["type"] == kind), {})

    def events(self) -> list[dict[str, Any]]:
        return list(self.server.request("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"])

    def delete(self, name: str) -> None:
        self.server.request("DELETE", self._locate(name))

    def lease(self) -> dict[str, Any]:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/weighbridge"
        return dict(self.server.request("GET", path)["spec"])

    def _create(self, name: str) -> ObjectReport:
        made = self.server.apply(self._build(name))["metadata"]
        told = make_node(name, make_endpoint(), namespace=self.namespace)
        return dataclasses.replace(told, uid=made["uid"], generation=made["generation"])

    def _build(self, name: str) -> dict[str, Any]:
        node = build_node({})
        node["metadata"] = {"name": name, "namespace": self.namespace}
        return node

    def _locate(self, name: str) -> str:
        return locate(self._build(name))


@pytest.fixture
def cluster(api_server: ApiServer, namespace: str) -> Iterator[Cluster]:
    with ExitStack() as running:
        yield Cluster(api_server, namespace, running)


def report(nodes: list[ObjectReport]) -> Report:
    """Of these nodes alone."""
    made = make_report(nodes)
    return dataclasses.replace(made, objects=tuple(each for each in made.objects if each.kind == "ModelNode"))


def turn(node: ObjectReport, **faults: str) -> ObjectReport:
    """The same node with another state."""
    other = make_node(node.name, *node.endpoints, namespace=node.namespace, **faults)
    return dataclasses.replace(node, conditions=other.conditions)


def score(node: ObjectReport, value: float) -> ObjectReport:
    return dataclasses.replace(node, endpoints=tuple(dataclasses.replace(e, score=value) for e in node.endpoints))


def until(done: Callable[[], bool], limit: float = LIMIT) -> float:
    """Waits for it; answers the seconds that it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < limit, "not in time"
        time.sleep(0.02)
    return time.monotonic() - began


def keep(writers: list[StatusWriter], said: Report, done: Callable[[], bool], limit: float = LIMIT) -> float:
    """The same, with the report offered as the control plane does."""

    def step() -> bool:
        for writer in writers:
            writer.offer(said)
        return done()

    return until(step, limit)


def test_the_leader_alone_writes_and_only_what_is_new(cluster: Cluster) -> None:
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


def test_another_takes_over_within_seconds_and_at_once_after_a_clean_end(cluster: Cluster) -> None:
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


def test_a_new_leader_writes_nothing_again(cluster: Cluster) -> None:
    nodes = cluster.create("a", "b", "c")
    first, one = cluster.start("one")
    keep([first], report(nodes), lambda: len(one.writes) == 3)
    first.stop()
    second, two = cluster.start("two")
    keep([second], report(nodes), lambda: second.leads)
    end = time.monotonic() + 3
    keep([second], report(nodes), lambda: time.monotonic() > end)
    assert two.writes == []


def test_the_budget_is_kept_and_faults_come_first(cluster: Cluster) -> None:
    nodes = cluster.create(*(f"n{number:03}" for number in range(90)))
    first, one = cluster.start("one")
    wrong = turn(nodes[-1], false="Accepted", reason="Invalid", message="spec.capacity: must be more than 0")
    keep([first], report([*nodes[:-1], wrong]), lambda: len(one.writes) == 90)
    began = one.writes[0][0]
    assert one.writes[0][1].name == "n089"
    for number, (at, _) in enumerate(one.writes, start=1):
        assert number <= WRITES_AT_ONCE + 10 * (at - began) + 1.5
    assert one.writes[-1][0] - began > 3.5


def test_the_api_server_may_go_away_and_come_back(cluster: Cluster) -> None:
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


def test_ready_tells_an_event_when_it_turns(cluster: Cluster) -> None:
    nodes = cluster.create("a")
    first, _ = cluster.start("one")
    keep([first], report(nodes), lambda: len(cluster.events()) == 1)
    faulty = report([turn(nodes[0], false="Programmed", reason="Refused", message="Envoy said no")])
    keep([first], faulty, lambda: len(cluster.events()) == 2)
    told = {event["reason"]: event for event in cluster.events()}
    assert told["Ready"]["type"] == "Normal"
    assert (told["Refused"]["type"], told["Refused"]["message"]) == ("Warning", "Envoy said no")
    assert told["Refused"]["involvedObject"]["uid"] == nodes[0].uid


def test_objects_that_are_gone_or_made_anew_disturb_nobody(cluster: Cluster) -> None:
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


def test_nothing_keeps_an_object_from_being_deleted(cluster: Cluster) -> None:
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
