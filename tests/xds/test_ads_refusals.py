"""ADS conversations that go wrong, as text: refusals, lost acknowledgements, a past that nobody remembers."""

from __future__ import annotations

from support.model_envoy import make_resource, make_snapshot
from support.transcript import Talk, gateway
from weighbridge_operator.xds.ads import Conversation
from weighbridge_operator.xds.exchange import Request
from weighbridge_operator.xds.kinds import CLUSTER, ROUTE


def test_a_stale_nonce_is_no_verdict() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("a1", weights="2"), "weights")
    talk.say("EDS 2 a", "EDS 2 a NACK late")
    assert not talk.talk.settled
    talk.say("EDS 5 a")
    assert talk.talk.settled
    assert [state.refusals for state in talk.talk.states()] == [()] * 5


def test_a_refused_route_keeps_the_last_one_and_is_not_sent_again_until_it_changes() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("a1", route="bad"), "a bad route")
    talk.say("RDS 5 r NACK no such thing")
    talk.offer(gateway("a1", route="bad", weights="2"), "weights change, the route does not")
    talk.say("EDS 6 a", "RDS 5 r", "RDS 7 r")
    talk.offer(gateway("a1", route="good"), "the route is repaired")
    talk.reads(
        """
        ! a bad route
          < RDS 5 r@bad
        > RDS 5 r NACK no such thing
        ! weights change, the route does not
          < EDS 6 a@2
        > EDS 6 a
        > RDS 5 r
          < RDS 7 r@a
        > RDS 7 r
        ! the route is repaired
          < EDS 8 a@1
          < RDS 9 r@good
        """
    )


def test_a_refused_cluster_that_is_named_is_left_out_and_the_rest_serves() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("a1 b2 c1"), "b is bad")
    talk.say("EDS 2 a c", "CDS 5 NACK Error adding/updating cluster(s) b: no good", "EDS 6 a c", "CDS 7")
    talk.warm()
    talk.reads(
        """
        ! b is bad
          < CDS 5 a@1 b@2 c@1
        > EDS 2 a c
          < EDS 6 c@1
        > CDS 5 NACK Error adding/updating cluster(s) b: no good
          < CDS 7 a@1 c@1
          < EDS 8 a@1
        > EDS 6 a c
          < EDS 9 c@1
        > CDS 7
        ! warm: a c
          < RDS 10 r@abc
        """
    )
    ((name, refusal),) = next(state.refusals for state in talk.talk.states() if state.kind == CLUSTER)
    assert (name, refusal.text) == ("b", "Error adding/updating cluster(s) b: no good")


def test_an_unnamed_culprit_is_found_by_halves() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("a2 b1 c1 d1"), "c is bad, and Envoy does not say so")
    talk.say("CDS 5 NACK proto constraint")
    talk.reads(
        """
        ! c is bad, and Envoy does not say so
          < CDS 5 a@2 b@1 c@1 d@1
          < EDS 6 a@1
        > CDS 5 NACK proto constraint
          < CDS 7 a@2 b@1
        """
    )
    talk.lines.clear()
    talk.say("CDS 7", "CDS 8 NACK proto constraint", "CDS 9")
    talk.reads(
        """
        > CDS 7
          < CDS 8 a@2 b@1 c@1
        > CDS 8 NACK proto constraint
          < CDS 9 a@2 b@1 d@1
        > CDS 9
        """
    )


def test_after_our_own_restart_a_refused_set_rests_rather_than_delete_what_may_serve() -> None:
    talk = Talk()
    talk.offer(gateway("a2 b1"), "an Envoy with a past that we do not know")
    talk.say("CDS -", "EDS - a b", "LDS -", "RDS - r", version="earlier")
    talk.say("CDS 1 NACK Error adding/updating cluster(s) a: no good", "EDS 2 a b", "EDS 3 a b", version="earlier")
    talk.offer(gateway("a2 b1", weights="2"), "weights")
    talk.offer(gateway("a3 b1", weights="2"), "a is repaired")
    talk.reads(
        """
        ! an Envoy with a past that we do not know
        > CDS -
          < CDS 1 a@2 b@1
        > EDS - a b
          < EDS 2 a@1
          < EDS 3 b@1
        > LDS -
        > RDS - r
        > CDS 1 NACK Error adding/updating cluster(s) a: no good
        > EDS 2 a b
        > EDS 3 a b
        ! weights
          < EDS 4 a@2
          < EDS 5 b@2
        ! a is repaired
          < CDS 6 a@3 b@1
        """
    )


def test_unknown_types_are_ignored() -> None:
    talk = Conversation()
    talk.offer(gateway("a1"), 0.0)
    assert talk.receive(Request("type.googleapis.com/envoy.service.runtime.v3.Runtime"), 0.0) == ()


def test_a_route_whose_acknowledgement_was_lost_keeps_its_clusters() -> None:
    talk = Talk()
    talk.start(gateway("a1 b1", route="1"))
    talk.offer(gateway("a1 b1", route="2"), "a route to a and b, and the stream breaks before its acknowledgement")
    again = Talk(Conversation(talk.talk.memory))
    again.offer(gateway("a1"), "b is gone")
    again.say("CDS -", "EDS - a b", "LDS -", "RDS - r", version="earlier")
    again.say("CDS 1", "RDS 5 r", version="earlier")
    again.reads(
        """
        ! b is gone
        > CDS -
          < CDS 1 a@1 b@1
        > EDS - a b
          < EDS 2 a@1
          < EDS 3 b@1
        > LDS -
          < LDS 4 l@1
        > RDS - r
          < RDS 5 r@a
        > CDS 1
        > RDS 5 r
          < CDS 6 a@1
        """
    )


def test_only_the_lost_acknowledgement_tells_of_a_new_cluster_in_a_route() -> None:
    talk = Talk()
    both = gateway("a1 b1", route="a")
    resources = [r for kind in both.resources for r in both.of(kind).values() if r.type_url != ROUTE]
    talk.start(make_snapshot(*resources, make_resource(ROUTE, "r", "a", [(CLUSTER, "a")])))
    talk.offer(make_snapshot(*resources, make_resource(ROUTE, "r", "b", [(CLUSTER, "b")])), "the route moves to b")
    again = Talk(Conversation(talk.talk.memory))
    again.offer(gateway("a1"), "b is gone")
    again.say("CDS -", version="earlier")
    again.reads(
        """
        ! b is gone
        > CDS -
          < CDS 1 a@1 b@1
        """
    )


def test_a_changed_cluster_whose_assignment_is_refused_gets_the_last_accepted_one() -> None:
    talk = Talk()
    talk.start(gateway("a1"))
    talk.offer(gateway("a2", weights="bad"), "a changes, and its assignment is bad")
    talk.say("CDS 5", "EDS 6 a NACK no good", "EDS 7 a")
    talk.reads(
        """
        ! a changes, and its assignment is bad
          < CDS 5 a@2
          < EDS 6 a@bad
        > CDS 5
        > EDS 6 a NACK no good
          < EDS 7 a@1
        > EDS 7 a
        """
    )
