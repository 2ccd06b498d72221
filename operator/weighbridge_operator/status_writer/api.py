"""The calls of the status writer. Each is a right that it must have: `permissions` lists them for the chart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from weighbridge_api.base import API_VERSION, GROUP, VERSION
from weighbridge_operator.cluster_api import APPLY, ApiFault, ClusterApi
from weighbridge_operator.settings import ALL
from weighbridge_operator.status_writer.election import Election, Record
from weighbridge_operator.status_writer.statuses import Status, Subject

MANAGER: Final = "weighbridge"  # field manager of every status
PAGE: Final = "500"  # objects in one answer
PLURALS: Final = {"ModelNode": "modelnodes", "RoutePolicy": "routepolicies"}


class StatusApi:
    """What the writer asks of the API server. Every method raises ApiFault."""

    def __init__(self, api: ClusterApi, watch: tuple[str, ...]) -> None:
        self._api, self._watch = api, watch

    def read_lease(self, election: Election) -> Record | None:
        """None where there is none yet."""
        try:
            return Record.read(self._api.call("GET", f"{election.path}/{election.name}"))
        except ApiFault as fault:
            if fault.status == 404:
                return None
            raise

    def write_lease(self, election: Election, lease: dict[str, Any]) -> Record | None:
        """The new record; None where another one was quicker."""
        fresh = "resourceVersion" not in lease["metadata"]
        path = election.path if fresh else f"{election.path}/{election.name}"
        try:
            return Record.read(self._api.call("POST" if fresh else "PUT", path, lease))
        except ApiFault as fault:
            if fault.status == 409:
                return None
            raise

    def read_statuses(self) -> dict[Subject, Status]:
        """Of every object in the watched namespaces."""
        return {
            Subject(kind, item["metadata"]["namespace"], item["metadata"]["name"], item["metadata"]["uid"]): status
            for kind in PLURALS
            for item in self._list(PLURALS[kind])
            if (status := item.get("status"))
        }

    def apply(self, subject: Subject, status: Status) -> None:
        """Server-side apply of the status alone. An object that was made anew under this name answers 409."""
        metadata = {"name": subject.name, "namespace": subject.namespace, "uid": subject.uid}
        body = {"apiVersion": API_VERSION, "kind": subject.kind, "metadata": metadata, "status": status}
        query = (("fieldManager", MANAGER), ("force", "true"))
        root = f"/apis/{GROUP}/{VERSION}/namespaces/{subject.namespace}"
        path = f"{root}/{PLURALS[subject.kind]}/{subject.name}/status"
        self._api.call("PATCH", path, body, query=query, content=APPLY)

    def post(self, path: str, event: dict[str, Any]) -> None:
        """Publishes an event."""
        self._api.call("POST", path, event)

    def _list(self, plural: str) -> Iterator[dict[str, Any]]:
        roots = [""] if ALL in self._watch else [f"/namespaces/{name}" for name in self._watch]
        for root in roots:
            more: str | None = ""
            while more is not None:
                query = [("limit", PAGE), *([("continue", more)] if more else [])]
                page = self._api.call("GET", f"/apis/{GROUP}/{VERSION}{root}/{plural}", query=query)
                yield from page.get("items", ())
                more = page.get("metadata", {}).get("continue") or None
