"""Routes that move between clusters which change at the same time. The notation is Talk's."""

from __future__ import annotations

from support.model_envoy import make_resource, make_snapshot
from support.transcript import Talk, lead
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


def test_what_comes_to_a_cluster_finds_its_nodes_right_behind_the_routes() -> None:
    """Both can't be served before: n has to leave the old nodes, o needs the new ones."""
    talk = Talk()
    talk.start(lead("m:a n:a o:b", a="1", b="1"))
    talk.offer(lead("m:a n:c o:a", a="2", c="1"), "o comes to a, n leaves it")
    talk.say("EDS 3 a b c", "CDS 6", "EDS 7 a b c")
    talk.warm()
    talk.say("EDS 9 a b c", "RDS 8 r")
    talk.reads(
        """
        ! o comes to a, n leaves it
          < CDS 6 a@1 b@1 c@1
        > EDS 3 a b c
          < EDS 7 c@1
        > CDS 6
        > EDS 7 a b c
        ! warm: c
          < RDS 8 r@m:a n:c o:a
          < EDS 9 a@2
        > EDS 9 a b c
        > RDS 8 r
          < CDS 10 a@1 c@1
        """
    )


def test_nodes_wait_for_seconds_and_no_longer() -> None:
    """One of them may be gone, and routes may be long in coming where models move all the time."""
    talk = Talk()
    talk.start(lead("m:a n:a", a="1"))
    talk.offer(lead("m:a n:b", a="2", b="1"), "n goes to b")
    talk.wait(4)
    talk.wait(1)
    talk.say("EDS 6 a")
    talk.offer(lead("m:a n:c", a="3", c="1"), "n goes to c")
    talk.reads(
        """
        ! n goes to b
          < CDS 5 a@1 b@1
        ! 4 s pass
        ! 1 s pass
          < EDS 6 a@2
        > EDS 6 a
        ! n goes to c
          < EDS 7 a@3
        """
    )


def test_a_refused_cluster_keeps_no_nodes_waiting() -> None:
    """Routes go on without it."""
    talk = Talk()
    talk.start(lead("m:a n:a", a="1"))
    talk.offer(lead("m:a n:b", a="2", b="1"), "n goes to b")
    talk.say("CDS 5 NACK Error adding/updating cluster(s) b: no", "CDS 6", "EDS 7 a")
    talk.warm()
    talk.say("RDS 8 r")
    talk.reads(
        """
        ! n goes to b
          < CDS 5 a@1 b@1
        > CDS 5 NACK Error adding/updating cluster(s) b: no
          < CDS 6 a@1
          < EDS 7 a@1
        > CDS 6
        > EDS 7 a
        ! warm: a
          < RDS 8 r@m:a n:b
        > RDS 8 r
          < EDS 9 a@2
        """
    )


def test_nodes_wait_while_somebody_elses_cluster_is_refused() -> None:
    talk = Talk()
    talk.start(lead("m:a n:a o:b", a="1", b="1"))
    talk.offer(lead("m:a n:a o:b", a="1", b="1", z="1"), "z comes")
    talk.say("CDS 6 NACK Error adding/updating cluster(s) z: no", "CDS 7", "EDS 9 a b")
    talk.warm()
    talk.lines.clear()
    talk.offer(lead("m:a n:b o:b", a="2", b="1", z="1"), "n goes to b")
    talk.say("RDS 10 r")
    talk.reads(
        """
        ! n goes to b
          < RDS 10 r@m:a n:b o:b
        > RDS 10 r
          < EDS 11 a@2
        """
    )


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


def test_nodes_wait_for_routes_that_come_back_while_others_are_on_their_way() -> None:
    talk = Talk()
    talk.start(lead("m:a n:b o:b", a="1", b="1"))
    talk.offer(lead("m:a n:a o:b", a="1", b="1"), "n goes to a")
    talk.offer(lead("m:a n:b o:b", a="2", b="1"), "back to b, and a gets nodes that have no n")
    talk.say("RDS 6 r", "RDS 7 r")
    talk.reads(
        """
        ! n goes to a
          < RDS 6 r@m:a n:a o:b
        ! back to b, and a gets nodes that have no n
        > RDS 6 r
          < RDS 7 r@m:a n:b o:b
        > RDS 7 r
          < EDS 8 a@2
        """
    )
