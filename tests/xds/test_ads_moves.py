"""Routes that move between clusters which change at the same time. The notation is Talk's."""

from __future__ import annotations

from support.model_envoy import make_resource, make_snapshot
from support.transcript import Talk
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LISTENER, ROUTE
from weighbridge_operator.xds.snapshot import Snapshot


def test_a_route_moves_to_a_cluster_that_changes_when_the_changed_one_is_warm() -> None:
    """Two pools become one under the name of the smaller: its clusters' old form has half of the nodes."""

    def offer(route: str, **clusters: str) -> Snapshot:
        return make_snapshot(
            *(make_resource(CLUSTER, name, form, [(ENDPOINT, name)]) for name, form in clusters.items()),
            *(make_resource(ENDPOINT, name, form) for name, form in clusters.items()),
            make_resource(LISTENER, "l", "1", [(ROUTE, "r")]),
            make_resource(ROUTE, "r", route, [(CLUSTER, name) for name in clusters]),
        )

    talk = Talk()
    talk.start(offer("1", a="1", b="1"))
    talk.offer(offer("2", a="2"), "a has what b had")
    talk.say("CDS 6", "EDS 7 a b")
    talk.warm()
    talk.say("RDS 8 r", "CDS 9")
    talk.reads(
        """
        ! a has what b had
          < CDS 6 a@2 b@1
          < EDS 7 a@2
        > CDS 6
        > EDS 7 a b
        ! warm: a
          < RDS 8 r@2
        > RDS 8 r
          < CDS 9 a@2
        > CDS 9
        """
    )
