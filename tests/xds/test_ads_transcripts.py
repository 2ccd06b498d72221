"""The main ADS conversations as text: who says what, in which order. The notation is Talk's."""

from __future__ import annotations

from support.model_envoy import make_resource, make_snapshot
from support.transcript import Talk, gateway
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from weighbridge_operator.xds.snapshot import Snapshot


def chain(*parts: str, version: str) -> Snapshot:
    """A cluster x over clusters of its own, and a route to it."""
    return make_snapshot(
        *(make_resource(CLUSTER, part, "1", [(ENDPOINT, part)]) for part in parts),
        *(make_resource(ENDPOINT, part, "1") for part in parts),
        make_resource(CLUSTER, "x", version, [(CLUSTER, part) for part in parts]),
        make_resource(LISTENER, "l", "1", [(ROUTE, "r")]),
        make_resource(ROUTE, "r", "1", [(CLUSTER, "x")]),
    )


def test_cold_start_is_silent_until_the_first_snapshot_and_then_in_the_order_of_making() -> None:
    """A starting Envoy asks for listeners when its clusters are warm, and answers no look before it has some."""
    talk = Talk()
    talk.say("CDS -")
    talk.offer(gateway("a1 b1"), "first snapshot")
    talk.say("EDS - a b", "CDS 1", "EDS 2 a b", "LDS -", "EDS 3 a b", "LDS 4", "RDS - r", "RDS 5 r")
    talk.reads(
        """
        > CDS -
        ! first snapshot
          < CDS 1 a@1 b@1
        > EDS - a b
          < EDS 2 a@1
          < EDS 3 b@1
        > CDS 1
        > EDS 2 a b
        > LDS -
          < LDS 4 l@1
        > EDS 3 a b
        > LDS 4
        > RDS - r
          < RDS 5 r@ab
        > RDS 5 r
        """
    )


def test_an_envoy_that_connects_again_may_ask_for_listeners_at_any_time() -> None:
    talk = Talk()
    talk.offer(gateway("a1"), "first snapshot")
    talk.say("CDS -", version="1")
    talk.say("CDS 1", "EDS - a", "EDS 2 a", "LDS -")
    assert talk.talk.waits_for_warmth == {"a"}


def test_a_rename_makes_before_it_breaks() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("b1"), "a is called b")
    talk.say("EDS 2 a b", "CDS 5", "EDS 6 a b")
    talk.warm()
    talk.say("RDS 7 r", "EDS 6 b", "CDS 8")
    talk.reads(
        """
        ! a is called b
          < CDS 5 a@1 b@1
        > EDS 2 a b
          < EDS 6 b@1
        > CDS 5
        > EDS 6 a b
        ! warm: b
          < RDS 7 r@b
        > RDS 7 r
          < CDS 8 b@1
        > EDS 6 b
        > CDS 8
        """
    )


def test_a_load_change_sends_the_changed_assignment_and_nothing_else() -> None:
    talk = Talk()
    before = gateway("a1 b1")
    talk.start(before)
    resources = [r for kind in before.resources for r in before.of(kind).values() if (kind, r.name) != (ENDPOINT, "b")]
    talk.offer(make_snapshot(*resources, make_resource(ENDPOINT, "b", "2")), "b weighs more")
    talk.say("EDS 6 a b")
    talk.offer(make_snapshot(*resources, make_resource(ENDPOINT, "b", "2")), "the same again")
    talk.reads(
        """
        ! b weighs more
          < EDS 6 b@2
        > EDS 6 a b
        ! the same again
        """
    )


def test_a_changed_cluster_gets_its_unchanged_assignment_behind_it() -> None:
    talk = Talk()
    talk.start(gateway("a1 b1"))
    talk.offer(gateway("a2 b1"), "a changes")
    talk.say("EDS 3 a b", "CDS 6", "EDS 7 a b")
    talk.reads(
        """
        ! a changes
          < CDS 6 a@2 b@1
          < EDS 7 a@1
        > EDS 3 a b
        > CDS 6
        > EDS 7 a b
        """
    )


def test_a_repeated_request_is_answered_once_although_nothing_changed() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.say("RDS 4 r", "RDS 5 r", "EDS 2 a", "EDS 6 a")
    talk.reads(
        """
        > RDS 4 r
          < RDS 5 r@a
        > RDS 5 r
        > EDS 2 a
          < EDS 6 a@1
        > EDS 6 a
        """
    )


def test_without_warmth_the_routes_wait_two_seconds_and_no_longer() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("a1 b1"), "b is new, and slow")
    talk.say("EDS 2 a b", "CDS 5", "EDS 6 a b")
    assert talk.talk.waits_for_warmth == {"b"}
    assert talk.talk.deadline == 2.0
    talk.lines.clear()
    talk.wait(1.9)
    talk.wait(0.1)
    talk.reads(
        """
        ! 1.9 s pass
        ! 0.1 s pass
          < RDS 7 r@ab
        """
    )


def test_newer_snapshots_replace_each_other_while_a_response_is_out() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    for number in range(2, 9):
        talk.offer(gateway(f"a{number}", weights=str(number)), str(number))
    talk.lines.clear()
    talk.say("CDS 5", "EDS 6 a")
    talk.reads(
        """
        > CDS 5
          < CDS 7 a@8
        > EDS 6 a
          < EDS 8 a@8
        """
    )


def test_a_cluster_that_is_given_up_on_its_way_gets_its_assignment_all_the_same() -> None:
    """Envoy accepts a set when all of it is warm: without, 15 s later, and nothing else comes through meanwhile."""
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("a1 b1"), "b comes")
    talk.offer(gateway("a1"), "b goes")
    talk.say("EDS 2 a b", "EDS 6 a b", "CDS 5")
    talk.reads(
        """
        ! b comes
          < CDS 5 a@1 b@1
        ! b goes
        > EDS 2 a b
          < EDS 6 b@1
        > EDS 6 a b
        > CDS 5
          < CDS 7 a@1
        """
    )


def test_a_secret_goes_to_whoever_asks_and_shows_in_no_line() -> None:
    talk = Talk()
    secret = make_resource(SECRET, "key", "1")
    talk.offer(make_snapshot(make_resource(CLUSTER, "a", "1", [(SECRET, "key")]), secret), "a needs a key")
    talk.say("CDS -", "SDS - key", "CDS 1")
    assert not talk.talk.waits_for_warmth
    talk.say("SDS 2 key")
    talk.reads(
        """
        ! a needs a key
        > CDS -
          < CDS 1 a@1
        > SDS - key
          < SDS 2 key@1
        > CDS 1
        > SDS 2 key
        """
    )
    assert talk.talk.waits_for_warmth == {"a"}
    assert "b''" not in repr(secret)


def test_a_cluster_of_clusters_moves_when_its_new_parts_can_serve() -> None:
    talk = Talk()
    talk.start(chain("a", version="1"))
    talk.offer(chain("b", version="2"), "x moves from a to b")
    talk.say("EDS 2 a b", "CDS 5", "EDS 6 a b")
    talk.warm()
    talk.say("CDS 7")
    talk.reads(
        """
        ! x moves from a to b
          < CDS 5 a@1 b@1 x@1
        > EDS 2 a b
          < EDS 6 b@1
        > CDS 5
        > EDS 6 a b
        ! warm: b
          < CDS 7 a@1 b@1 x@2
        > CDS 7
          < CDS 8 b@1 x@2
        """
    )


def test_the_end_of_patience_with_a_cluster_is_not_that_with_its_parts() -> None:
    talk = Talk()
    talk.offer(chain("a", version="1"), "first snapshot")
    talk.say("CDS -", version="1")
    talk.say("CDS 1", "LDS -")
    assert talk.talk.waits_for_warmth == {"x"}
    talk.lines.clear()
    talk.wait(2.0)
    talk.say("EDS - a", "EDS 2 a")
    talk.warm()
    talk.reads(
        """
        ! 2 s pass
        > EDS - a
          < EDS 2 a@1
        > EDS 2 a
        ! warm: a
          < LDS 3 l@1
        """
    )


def test_a_cluster_that_comes_back_must_warm_again() -> None:
    talk = Talk()
    talk.start(gateway("a1 b1"))
    talk.offer(gateway("a1"), "b goes")
    talk.say("RDS 6 r", "CDS 7", "EDS 3 a")
    talk.offer(gateway("a1 b1"), "b is back")
    talk.say("EDS 3 a b", "CDS 8", "EDS 9 a b")
    talk.warm()
    talk.reads(
        """
        ! b goes
          < RDS 6 r@a
        > RDS 6 r
          < CDS 7 a@1
        > CDS 7
        > EDS 3 a
        ! b is back
          < CDS 8 a@1 b@1
        > EDS 3 a b
          < EDS 9 b@1
        > CDS 8
        > EDS 9 a b
        ! warm: b
          < RDS 10 r@ab
        """
    )
