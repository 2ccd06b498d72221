"""What a replica knows of an Envoy that it never spoke with, from the version that this one names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.model_envoy import make_resource, make_snapshot
from weighbridge_operator.conditions import Evidence, judge_policy
from weighbridge_operator.envoy_reports import LASTING, Elsewhere
from weighbridge_operator.sources.envoys import EnvoyRound, EnvoyState
from weighbridge_operator.state import Ref
from weighbridge_operator.xds.ads import SPREAD
from weighbridge_operator.xds.envoys import EnvoyState as Connected
from weighbridge_operator.xds.envoys import EnvoyStates, KindState, Lack
from weighbridge_operator.xds.kinds import CLUSTER, ENDPOINT, LABELS, LISTENER, ROUTE, SECRET
from weighbridge_operator.xds.memory import Refusal
from weighbridge_operator.xds.snapshot import Resource, Snapshot, combine_versions

NAMES = ("a", "b", "c")


def build(**forms: str) -> Snapshot:
    clusters = [make_resource(CLUSTER, name, forms.get(name, "1")) for name in NAMES if forms.get(name) != ""]
    return make_snapshot(*clusters, make_resource(LISTENER, "l", "1"), make_resource(ROUTE, "r", "1"))


def answer(held: Snapshot, *, routes: str | None = None) -> EnvoyRound:
    """One Envoy that says that it holds this."""
    versions = {LABELS[kind]: held.versions[kind] for kind in (CLUSTER, LISTENER, ROUTE)}
    versions |= {"RDS": routes} if routes else {}
    return EnvoyRound({"far": EnvoyState(0.0, {}, {}, {}, 0, live=True, versions=versions)}, {})


def judge(elsewhere: Elsewhere, held: Snapshot, wanted: Snapshot, now: float) -> Lack | None:
    return elsewhere.judge(EnvoyStates(), answer(held), wanted, (), now)["far"]


def test_who_holds_all_lacks_nothing() -> None:
    assert judge(Elsewhere(), build(), build(), 0.0) is None


@pytest.mark.parametrize("held", [build(b=""), build(b="0")], ids=["new", "changed"])
def test_the_one_cluster_that_an_envoy_refuses_is_found(held: Snapshot) -> None:
    elsewhere = Elsewhere()
    judge(elsewhere, held, held, 0.0)
    first = judge(elsewhere, held, build(), 1.0)
    assert first == Lack("it does not hold the newest configuration", frozenset({"b"}))
    later = judge(elsewhere, held, build(), 1.1 + LASTING)
    assert later is not None
    assert later.lasting
    # Another form of it is another question, and an answer to that ends it.
    again = judge(elsewhere, held, build(b="2"), 2.0 + LASTING)
    assert again is None or not again.lasting
    assert judge(elsewhere, build(b="2"), build(b="2"), 3.0 + LASTING) is None


def test_where_more_is_missing_nobody_knows_which() -> None:
    lack = judge(Elsewhere(), build(a="", b=""), build(), 0.0)
    assert lack is not None
    assert lack.names is None


def test_a_route_table_that_is_behind_concerns_all() -> None:
    lack = Elsewhere().judge(EnvoyStates(), answer(build(b=""), routes="old"), build(), (), 0.0)["far"]
    assert lack is not None
    assert lack.names is None


def make_secrets(**forms: str) -> Snapshot:
    secrets = [make_resource(SECRET, name, form) for name, form in forms.items()]
    return make_snapshot(*(r for kind in (CLUSTER, LISTENER, ROUTE) for r in build().of(kind).values()), *secrets)


@pytest.mark.parametrize(
    ("told", "lacking"),
    [
        ({"k": "1", "other": "1"}, None),
        ({"k": "0", "other": "1"}, {"k"}),
        ({"k": "", "other": "0"}, {"k", "other"}),
        ({"other": "1"}, None),
    ],
)
def test_a_secret_in_another_form_is_lacking(told: dict[str, str], lacking: set[str] | None) -> None:
    """But for one of which the Envoy says nothing, which it may never have asked for."""
    wanted = make_secrets(k="1", other="1")
    held = {name: form and combine_versions((make_resource(SECRET, name, form),)) for name, form in told.items()}
    answered = answer(wanted)
    answered = EnvoyRound({"far": replace(answered.states["far"], secrets=held)}, {})
    elsewhere = Elsewhere()
    lack = elsewhere.judge(EnvoyStates(), answered, wanted, (), 0.0)["far"]
    assert (lack and lack.names) == lacking
    later = elsewhere.judge(EnvoyStates(), answered, wanted, (), 0.1 + LASTING)["far"]
    assert (later is not None and later.lasting) == (lacking is not None)


def test_of_more_secrets_than_come_one_by_one_nothing_is_said() -> None:
    wanted = make_secrets(**{f"k{number}": "1" for number in range(SPREAD + 1)})
    answered = EnvoyRound({"far": replace(answer(wanted).states["far"], secrets={"k1": "x"})}, {})
    assert Elsewhere().judge(EnvoyStates(), answered, wanted, (), 0.0)["far"] is None


def programmed(own: str, elsewhere: dict[str, Lack | None], *connected: Connected) -> tuple[str, str]:
    ref = Ref("RoutePolicy", "default", own)
    evidence = Evidence({}, {}, EnvoyStates(connected), published=True, elsewhere=elsewhere)
    found = next(c for c in judge_policy(ref, evidence, (own,)) if c.type == "Programmed")
    return found.status, found.reason


def test_what_one_object_lacks_is_not_held_against_the_others() -> None:
    young = Lack("behind", frozenset({"b"}))
    assert programmed("b", {"far": young}) == ("False", "Pending")
    assert programmed("b", {"far": Lack("behind", frozenset({"b"}), lasting=True)}) == ("False", "Refused")
    assert programmed("a", {"far": young}) == ("True", "Programmed")
    assert programmed("a", {"far": Lack("behind")}) == ("False", "Pending")


def test_what_a_connected_envoy_refuses_is_not_held_against_the_others() -> None:
    def kind(name: str, *lacking: str, refused: tuple[tuple[str, Refusal], ...] = ()) -> KindState:
        return KindState(name, "2", "1" if lacking else "2", refused, frozenset(lacking))

    refusal = (("b", Refusal("no such thing", 0.0)),)
    near = Connected(
        "near", None, "", 0.0, (kind(CLUSTER, "b", refused=refusal), kind(ENDPOINT, "b"), kind(LISTENER), kind(ROUTE))
    )
    assert programmed("b", {}, near) == ("False", "Refused")
    assert programmed("a", {}, near) == ("True", "Programmed")
    behind = Connected("near", None, "", 0.0, (kind(CLUSTER), kind(LISTENER), kind(ROUTE, "r")))
    assert programmed("a", {}, behind) == ("False", "Pending")
    assert programmed("a", {}, Connected("near", None, "", 0.0, ())) == ("False", "Pending")


def test_an_envoy_of_another_replica_without_a_data_plane_is_named() -> None:
    ref = Ref("RoutePolicy", "default", "p")
    evidence = Evidence(
        {}, {}, EnvoyStates(()), published=True, elsewhere={"far": None, "near": None}, without=frozenset({"far"})
    )
    found = next(c for c in judge_policy(ref, evidence, ("p",), precise=True) if c.type == "Programmed")
    assert (found.status, found.reason) == ("True", "NoDataPlane")
    assert "Envoy far has no data plane" in found.message
    assert "near" not in found.message


def test_versions_are_those_of_sets() -> None:
    clusters: tuple[Resource, ...] = tuple(build().of(CLUSTER).values())
    assert build().versions[CLUSTER] == combine_versions(clusters)
