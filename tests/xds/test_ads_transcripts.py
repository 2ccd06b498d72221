"""The main conversations as text: who says what, in which order. `>` is the Envoy, `<` is us, `!` is what happens."""

from __future__ import annotations

from textwrap import dedent

from support.model_envoy import make_resource, make_snapshot
from weighbridge_operator.xds.ads import Conversation
from weighbridge_operator.xds.exchange import Request, Response
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LABELS, LISTENER, ROUTE, SECRET
from weighbridge_operator.xds.snapshot import Snapshot

KINDS = {label: kind for kind, label in LABELS.items()}


def gateway(clusters: str, *, weights: str = "1", route: str | None = None, listener: str = "1") -> Snapshot:
    """`clusters` "a1 b2" are names with versions; every one has an assignment and is routed to."""
    names = [cluster[0] for cluster in clusters.split()]
    return make_snapshot(
        *(make_resource(CLUSTER, c[0], c[1:], [(ENDPOINT, c[0])]) for c in clusters.split()),
        *(make_resource(ENDPOINT, name, weights) for name in names),
        make_resource(LISTENER, "l", listener, [(ROUTE, "r")]),
        make_resource(ROUTE, "r", route or "".join(names), [(CLUSTER, name) for name in names]),
    )


class Talk:
    """Writes down a conversation. `say("EDS 4 a b")` is a request: type, nonce (`-` for none), names, `NACK text`."""

    def __init__(self, talk: Conversation | None = None) -> None:
        self.talk = talk or Conversation()
        self.lines: list[str] = []
        self.now = 0.0

    def say(self, *requests: str, version: str = "") -> None:
        for text in requests:
            self.lines.append(f"> {text}")
            said, _, error = text.partition(" NACK ")
            label, nonce, *names = said.split()
            nonce = "" if nonce == "-" else nonce
            request = Request(KINDS[label], version, nonce, tuple(names), error or None)
            self.write(self.talk.receive(request, self.now))

    def offer(self, snapshot: Snapshot, what: str) -> None:
        self.lines.append(f"! {what}")
        self.write(self.talk.offer(snapshot, self.now))

    def warm(self) -> None:
        waiting = self.talk.waits_for_warmth
        self.lines.append(f"! warm: {' '.join(sorted(waiting))}")
        self.write(self.talk.warmed(waiting, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.lines.append(f"! {seconds:g} s pass")
        self.write(self.talk.tick(self.now))

    def write(self, responses: tuple[Response, ...]) -> None:
        for response in responses:
            held = " ".join(f"{resource.name}@{resource.version}" for resource in response.resources)
            self.lines.append(f"  < {LABELS[response.kind]} {response.nonce} {held}".rstrip())

    def start(self, snapshot: Snapshot) -> None:
        """A cold start, not written down."""
        self.talk.offer(snapshot, self.now)
        names = " ".join(snapshot.endpoints)
        self.say("CDS -", "CDS 1", f"EDS - {names}")
        for nonce in range(2, 2 + len(snapshot.endpoints)):
            self.say(f"EDS {nonce} {names}")
        self.say("LDS -")
        self.warm()
        listener = int(self.lines[-1].split()[2])
        self.say(f"LDS {listener}", "RDS - r", f"RDS {listener + 1} r")
        assert self.talk.settled
        self.lines.clear()

    def reads(self, expected: str) -> None:
        assert "\n".join(self.lines) == dedent(expected).strip()


def test_cold_start_is_silent_until_the_first_snapshot_and_then_in_the_order_of_making() -> None:
    talk = Talk()
    talk.say("CDS -")
    talk.offer(gateway("a1 b1"), "first snapshot")
    talk.say("EDS - a b", "CDS 1", "LDS -", "EDS 2 a b", "EDS 3 a b")
    talk.warm()
    talk.say("LDS 4", "RDS - r", "RDS 5 r")
    talk.reads(
        """
        > CDS -
        ! first snapshot
          < CDS 1 a@1 b@1
        > EDS - a b
          < EDS 2 a@1
          < EDS 3 b@1
        > CDS 1
        > LDS -
        > EDS 2 a b
        > EDS 3 a b
        ! warm: a b
          < LDS 4 l@1
        > LDS 4
        > RDS - r
          < RDS 5 r@ab
        > RDS 5 r
        """
    )


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
        ! warm: c
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


def test_unknown_types_are_ignored() -> None:
    talk = Conversation()
    talk.offer(gateway("a1"), 0.0)
    assert talk.receive(Request("type.googleapis.com/envoy.service.runtime.v3.Runtime"), 0.0) == ()


def chain(*parts: str, version: str) -> Snapshot:
    """A cluster x over clusters of its own, and a route to it."""
    return make_snapshot(
        *(make_resource(CLUSTER, part, "1", [(ENDPOINT, part)]) for part in parts),
        *(make_resource(ENDPOINT, part, "1") for part in parts),
        make_resource(CLUSTER, "x", version, [(CLUSTER, part) for part in parts]),
        make_resource(LISTENER, "l", "1", [(ROUTE, "r")]),
        make_resource(ROUTE, "r", "1", [(CLUSTER, "x")]),
    )


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
    talk.say("CDS -", "CDS 1", "LDS -")
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
