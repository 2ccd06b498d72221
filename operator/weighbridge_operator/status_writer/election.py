"""Who writes: the holder of one Lease (coordination.k8s.io). The protocol alone: records in, what to do out, no I/O.

Clocks of two replicas need not agree. A candidate looks at when it *saw* the record change last, by its own clock; the
holder stops writing when it has not renewed for `STEP_DOWN`, which is before any candidate may take over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DURATION = 10.0  # seconds that a record holds after its last renewal
STEP_DOWN = 7.0  # seconds without a renewal after which the holder stops
PERIOD = 2.0  # seconds between two looks, or renewals


@dataclass(frozen=True, slots=True)
class Record:
    """A Lease as the API server has it. Times are its own text; `version` is its resourceVersion."""

    holder: str
    version: str
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    duration: float = DURATION

    @classmethod
    def read(cls, lease: dict[str, Any]) -> Record:
        """From a Lease object."""
        spec = lease.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            version=lease["metadata"]["resourceVersion"],
            acquired=spec.get("acquireTime") or "",
            renewed=spec.get("renewTime") or "",
            transitions=int(spec.get("leaseTransitions") or 0),
            duration=float(spec.get("leaseDurationSeconds") or DURATION),
        )


class Election:
    """One candidate. `observe` what the API server has, then do what `propose` says."""

    def __init__(self, name: str, namespace: str, identity: str) -> None:
        self.identity = identity
        self._metadata = {"name": name, "namespace": namespace}
        self._record: Record | None = None
        self._seen = 0.0  # when the record changed last, by our clock
        self._renewed = float("-inf")  # when our last good renewal was sent

    @property
    def path(self) -> str:
        """Of the Lease, without its name."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._metadata['namespace']}/leases"

    @property
    def name(self) -> str:
        return str(self._metadata["name"])

    @property
    def holder(self) -> str:
        """Who holds it, as far as is known; "" where nobody does."""
        return self._record.holder if self._record else ""

    def observe(self, record: Record | None, now: float) -> None:
        """Takes what the API server has; None where there is no Lease."""
        if record != self._record:
            self._record, self._seen = record, now

    def propose(self, now: float, clock: str) -> dict[str, Any] | None:
        """The Lease to create (it has no resourceVersion then) or to replace; None while another one holds it."""
        record = self._record
        if record is None:
            return self._lease(clock, clock, 0, None)
        if record.holder == self.identity:
            return self._lease(record.acquired or clock, clock, record.transitions, record.version)
        if record.holder and now < self._seen + record.duration:
            return None
        return self._lease(clock, clock, record.transitions + 1, record.version)

    def win(self, record: Record, sent: float) -> None:
        """The API server took what was proposed at `sent`."""
        self._record, self._seen, self._renewed = record, sent, sent

    def lose(self) -> None:
        """Another one holds it."""
        self._renewed = float("-inf")

    def leads(self, now: float) -> bool:
        """Whether we may write."""
        return now < self._renewed + STEP_DOWN

    def resign(self, clock: str) -> dict[str, Any] | None:
        """The Lease without a holder, so that another one need not wait; None where it is not ours."""
        record = self._record
        if record is None or record.holder != self.identity:
            return None
        self.lose()
        lease = self._lease(record.acquired or clock, clock, record.transitions, record.version)
        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        return lease

    def _lease(self, acquired: str, renewed: str, transitions: int, version: str | None) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": self._metadata | ({} if version is None else {"resourceVersion": version}),
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": int(DURATION),
                "acquireTime": acquired,
                "renewTime": renewed,
                "leaseTransitions": transitions,
            },
        }
