"""Routes that move between clusters which change at the same time. The notation is Talk's."""

from __future__ import annotations

from support.model_envoy import make_resource, make_snapshot
from support.transcript import Talk
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
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


def lead(leads: str, **assignments: str) -> Snapshot:
    """`leads` "m:a n:b": what is asked for, and the cluster it goes to; each has this form of its assignment."""
    pairs = [(cluster, asked) for asked, _, cluster in (each.partition(":") for each in leads.split())]
    route = make_resource(ROUTE, "r", leads, [(CLUSTER, name) for name in assignments], pairs)
    return make_snapshot(
        *(make_resource(CLUSTER, name, "1", [(ENDPOINT, name)]) for name in assignments),
        *(make_resource(ENDPOINT, name, form) for name, form in assignments.items()),
        make_resource(LISTENER, "l", "1", [(ROUTE, "r")]),
        route,
    )


def test_nodes_stay_as_they_are_for_what_is_about_to_go_elsewhere() -> None:
    """Of two models on the same nodes one gets a node more: the other's requests, led there still, must not meet it."""
    talk = Talk()
    talk.start(lead("m:a n:a", a="1"))
    talk.offer(lead("m:a n:b", a="2", b="1"), "a gets a node that has no n")
    talk.say("EDS 2 a b", "CDS 5", "EDS 6 a b")
    talk.warm()
    talk.say("RDS 7 r", "EDS 8 a b")
    talk.reads(
        """
        ! a gets a node that has no n
          < CDS 5 a@1 b@1
        > EDS 2 a b
          < EDS 6 b@1
        > CDS 5
        > EDS 6 a b
        ! warm: b
          < RDS 7 r@m:a n:b
        > RDS 7 r
          < EDS 8 a@2
        > EDS 8 a b
        """
    )


def test_nodes_wait_for_routes_also_where_every_cluster_is_there() -> None:
    talk = Talk()
    talk.start(lead("m:a n:a o:b", a="1", b="1"))
    talk.offer(lead("m:a n:b o:b", a="2", b="2"), "n goes to b, which gets nodes that have it")
    talk.say("EDS 6 a b", "RDS 7 r", "EDS 8 a b")
    talk.reads(
        """
        ! n goes to b, which gets nodes that have it
          < EDS 6 b@2
          < RDS 7 r@m:a n:b o:b
        > EDS 6 a b
        > RDS 7 r
          < EDS 8 a@2
        > EDS 8 a b
        """
    )


def change_cluster(snapshot: Snapshot, name: str) -> Snapshot:
    return snapshot.with_more(make_resource(CLUSTER, name, "2", [(ENDPOINT, name)]))


def test_a_cluster_changes_behind_the_routes_that_leave_it() -> None:
    """It may no longer do for them what it did: write the name that a node gives the model, say."""
    talk = Talk()
    talk.start(lead("m:a n:a", a="1"))
    talk.offer(change_cluster(lead("m:a n:b", a="2", b="1"), "a"), "a is another cluster, too")
    talk.say("EDS 2 a b", "CDS 5", "EDS 6 a b")
    talk.warm()
    talk.say("RDS 7 r", "EDS 9 a b", "CDS 8")
    talk.reads(
        """
        ! a is another cluster, too
          < CDS 5 a@1 b@1
        > EDS 2 a b
          < EDS 6 b@1
        > CDS 5
        > EDS 6 a b
        ! warm: b
          < RDS 7 r@m:a n:b
        > RDS 7 r
          < CDS 8 a@2 b@1
          < EDS 9 a@2
        > EDS 9 a b
        > CDS 8
        """
    )


def test_a_cluster_that_changes_for_what_comes_to_it_does_not_wait() -> None:
    talk = Talk()
    talk.start(lead("m:a n:a o:b", a="1", b="1"))
    talk.offer(change_cluster(lead("m:a n:b o:a", a="2", b="1"), "a"), "o comes to a, n leaves it")
    talk.say("CDS 6", "EDS 7 a b")
    talk.warm()
    talk.reads(
        """
        ! o comes to a, n leaves it
          < CDS 6 a@2 b@1
          < EDS 7 a@2
        > CDS 6
        > EDS 7 a b
        ! warm: a
          < RDS 8 r@m:a n:b o:a
        """
    )


def test_a_refused_cluster_keeps_no_nodes_waiting() -> None:
    """Routes that lead to it may never come."""
    talk = Talk()
    talk.start(lead("m:a n:a", a="1"))
    talk.offer(lead("m:a n:b", a="2", b="1"), "n goes to b")
    talk.say("CDS 5 NACK Error adding/updating cluster(s) b: no")
    assert "  < EDS 7 a@2" in talk.lines


def test_nodes_do_not_wait_for_routes_that_were_refused() -> None:
    talk = Talk()
    talk.start(lead("m:a n:a o:b", a="1", b="1"))
    refused = lead("m:a n:b o:b", a="2", b="1")
    talk.offer(refused, "n goes to b")
    talk.say("RDS 6 r NACK no")
    talk.reads(
        """
        ! n goes to b
          < RDS 6 r@m:a n:b o:b
        > RDS 6 r NACK no
          < EDS 7 a@2
        """
    )


def test_what_a_data_plane_chooses_from_waits_with_the_nodes() -> None:
    def told(snapshot: Snapshot, version: str) -> Snapshot:
        return snapshot.with_more(make_resource(RUNTIME, "choices", version))

    talk = Talk()
    talk.start(told(lead("m:a n:a o:b", a="1", b="1"), "1"))
    talk.say("RTDS - choices", "RTDS 6 choices")
    talk.offer(told(lead("m:a n:b o:b", a="2", b="1"), "2"), "n goes to b")
    talk.say("RDS 7 r")
    talk.reads(
        """
        > RTDS - choices
          < RTDS 6 choices@1
        > RTDS 6 choices
        ! n goes to b
          < RDS 7 r@m:a n:b o:b
        > RDS 7 r
          < EDS 8 a@2
          < RTDS 9 choices@2
        """
    )
