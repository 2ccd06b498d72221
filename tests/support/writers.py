"""Status writers of some replicas on a real API server, with reports that tests make."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.apiserver import ApiServer, locate
from support.corpus import build_node
from support.reports import make_endpoint, make_node, make_report
from weighbridge_operator.cluster_api import ClusterApi
from weighbridge_operator.permissions import Permission
from weighbridge_operator.report import ObjectReport, Report
from weighbridge_operator.status_writer.api import StatusApi
from weighbridge_operator.status_writer.election import Election
from weighbridge_operator.status_writer.statuses import Status, Subject
from weighbridge_operator.status_writer.writer import StatusWriter

LIMIT = 30.0  # seconds; a busy machine


class Counted(StatusApi):
    """Counts what is written, and when."""

    def __init__(self, api: ClusterApi, watch: tuple[str, ...]) -> None:
        super().__init__(api, watch)
        self.writes: list[tuple[float, Subject]] = []

    def apply(self, subject: Subject, status: Status) -> None:
        super().apply(subject, status)
        self.writes.append((time.monotonic(), subject))


class Written:
    """A namespace with nodes, and the writers of some replicas."""

    def __init__(self, server: ApiServer, namespace: str, running: ExitStack) -> None:
        self.server, self.namespace, self._running = server, namespace, running

    def create(self, *names: str) -> list[ObjectReport]:
        """Nodes of these names, and what a report says of them: all is well."""
        return [self._create(name) for name in names]

    def start(self, identity: str, kubeconfig: Path | None = None) -> tuple[StatusWriter, Counted]:
        api = Counted(ClusterApi.connect(str(kubeconfig or self.server.kubeconfig)), (self.namespace,))
        writer = StatusWriter(api, Election("weighbridge", self.namespace, identity))
        writer.start()
        self._running.callback(writer.stop)
        return writer, api

    def grant(self, user: str, granted: Iterable[Permission]) -> None:
        """These rights in the namespace, and nothing else."""
        metadata, group = {"name": user, "namespace": self.namespace}, "rbac.authorization.k8s.io"
        rules = [{"apiGroups": [p.group], "resources": [p.resource], "verbs": list(p.verbs)} for p in granted]
        self.server.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
        binding = {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata}
        subjects = [{"kind": "User", "name": user, "apiGroup": group}]
        self.server.apply(
            binding | {"roleRef": {"kind": "Role", "name": user, "apiGroup": group}, "subjects": subjects}
        )

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
