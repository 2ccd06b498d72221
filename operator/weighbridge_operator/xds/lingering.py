"""Clusters of clusters that no route names any more, kept for the requests that began when one did. Pure.

Envoy holds a request by the routes of its beginning, and looks for the cluster that they name when its body is whole,
and again for each retry (measured, Envoy 1.40): one that is gone by then is a 503. A pool's own cluster stays while the
pool does; a chain is another one with each part or fallback that comes or goes.
"""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge_operator.xds.kinds import CLUSTER, SECRET
from weighbridge_operator.xds.snapshot import Resource, Snapshot

LINGERS = 600.0  # seconds, as long as a request may take where no policy says otherwise
MOST = 256  # kept at once, the last that went


class Lingering:
    """`keep` what the snapshot before had, until its time `is_over`."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def keep(self, before: Snapshot | None, after: Snapshot, now: float) -> Snapshot:
        """`after`, with the chains of `before` that it lacks, where all that they lead to is there.

        A part that goes is not kept: it would be without nodes, and where it came again Envoy would not wait for their
        first health check.
        """
        known = before.clusters if before is not None else {}
        gone = {name: each for name, each in known.items() if name not in after.clusters and _is_chain(each)}
        until = {name: self._until.get(name, now + LINGERS) for name in gone}
        kept = sorted((end, name) for name, end in until.items() if end > now and _is_whole(name, gone, after))[-MOST:]
        self._until = {name: end for end, name in kept}
        return after.with_more(*(gone[name] for name in self._until)) if kept else after

    def is_over(self, now: float) -> bool:
        """Whether something is kept whose time is over."""
        return any(end <= now for end in self._until.values())


def _is_chain(cluster: Resource) -> bool:
    return any(kind == CLUSTER for kind, _ in cluster.needs)


def _is_whole(name: str, gone: Mapping[str, Resource], after: Snapshot) -> bool:
    """Whether all that the chain needs is there, or is kept with it."""
    for kind, need in gone[name].needs if name in gone else ():
        if kind == SECRET and need not in after.secrets:
            return False
        if kind == CLUSTER and need not in after.clusters and not (need in gone and _is_whole(need, gone, after)):
            return False
    return True
