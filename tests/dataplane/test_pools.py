"""What the three pages say reaches the choosers that it is for, and stays where it does not come again."""

from __future__ import annotations

import json
import random

from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked, Choice, Counts, Heard, Sample, Sent
from weighbridge_dataplane.pools import CHOOSERS_MAXIMUM, Pools
from weighbridge_dataplane.readings import Texts

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def build() -> Pools:
    return Pools(lambda pool: Chooser(random.Random(1).random, pool=pool))


def pool(*addresses: str) -> str:
    nodes = [{"address": address, "node": f"default/{address}", "engine": "vllm"} for address in addresses]
    return json.dumps({"nodes": nodes})


def calm(at: float, waiting: float = 0.0) -> Sample:
    return Sample(at, kv=0.1, waiting=waiting, running=1, prompt_tokens=at * 1000, generated_tokens=at * 1000)


def fill(pools: Pools, now: float, *, busy: tuple[str, ...] = ()) -> None:
    """Every node has a good sample, and nothing of ours."""
    for address in pools.members:
        pools.read(address, calm(now, 20.0 if address in busy else 0.0), now)
    pools.count({name: {address: Counts(0, 0, True) for address in pools.members} for name in pools.clusters}, now)


def name(pools: Pools, *clusters: str, now: float) -> str | None:
    choice = pools.choose(clusters, Asked(), now)
    return choice.member.address if choice.member else choice.silence


def test_nobody_told_the_nodes_yet() -> None:
    assert build().choose(("p",), Asked(), 1.0) == Choice(None, "unknown")


def test_a_chooser_of_two_clusters_has_the_nodes_of_both() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B), "q": pool(C)}, {}), 1.0)
    fill(pools, 1.0, busy=(A, B))
    assert name(pools, "p", "q", now=1.1) == C
    assert name(pools, "p", now=1.1) in (A, B)


def test_what_was_read_before_the_first_request_is_known_to_it() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B)}, {}), 1.0)
    fill(pools, 1.0, busy=(A,))
    assert name(pools, "p", now=1.1) == B


def test_a_page_that_does_not_come_again_leaves_what_was_read_until_it_is_old() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B)}, {}), 1.0)
    fill(pools, 1.0)
    assert name(pools, "p", now=2.0) in (A, B)
    assert name(pools, "p", now=4.0) == "stale"


def test_a_node_that_is_gone_is_never_named_and_a_new_one_is() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B)}, {}), 1.0)
    fill(pools, 1.0)
    assert name(pools, "p", now=1.1) in (A, B)
    pools.tell(Texts({"p": pool(B, C)}, {}), 1.2)
    assert pools.samples.keys() == {B}
    fill(pools, 1.3)
    assert {name(pools, "p", now=1.4) for _ in range(50)} == {B, C}


def test_a_cluster_that_is_gone_takes_its_chooser_along() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B)}, {}), 1.0)
    fill(pools, 1.0)
    assert name(pools, "p", now=1.1) in (A, B)
    pools.tell(Texts({}, {}), 1.2)
    assert name(pools, "p", now=1.3) == "unknown"
    assert not pools.members


def test_counts_come_under_the_name_that_statistics_spell() -> None:
    pools = build()
    pools.tell(Texts({"p:1": pool(A, B, C)}, {}), 1.0)
    fill(pools, 1.0)
    pools.count({"p_1": {A: Counts(0, 0, False), B: Counts(0, 0, True), C: Counts(0, 0, True)}}, 1.1)
    assert {name(pools, "p:1", now=1.2) for _ in range(20)} == {B, C}


def test_requests_of_a_node_in_two_clusters_are_added_up() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B), "q": pool(A)}, {}), 1.0)
    fill(pools, 1.0)
    counts = {"p": {A: Counts(0, 0, True), B: Counts(2, 0, True)}, "q": {A: Counts(30, 0, True)}}
    pools.count(counts, 1.1)
    assert name(pools, "p", now=1.2) == B


def test_a_node_that_the_weights_suspect_is_judged_by_count() -> None:
    pools = build()
    told = {"p": pool(A, B, C)}
    pools.tell(Texts(told, {"p": json.dumps({"active": {A: 0, B: 0, C: 0}, "suspect": [A]})}), 1.0)
    fill(pools, 1.0)
    by_count = {each.address: each.by_count for each in pools.choose(("p",), Asked(), 1.1).judged}
    assert by_count == {A: True, B: False, C: False}
    pools.tell(Texts(told, {"p": json.dumps({"active": {A: 0, B: 0, C: 0}, "suspect": []})}), 1.2)
    assert not any(each.by_count for each in pools.choose(("p",), Asked(), 1.3).judged)


def test_more_sets_of_clusters_than_anybody_has_forget_the_oldest() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B)}, {}), 1.0)
    fill(pools, 1.0)
    for number in range(CHOOSERS_MAXIMUM + 5):
        pools.choose(("p", str(number)), Asked(), 1.1)
    assert len(pools._choosers) == CHOOSERS_MAXIMUM
    assert name(pools, "p", "0", now=1.1) in (A, B)


def test_what_another_data_plane_sent_reaches_every_chooser_that_has_the_node() -> None:
    pools = build()
    pools.tell(Texts({"p": pool(A, B), "q": pool(A, C)}, {}), 1.0)
    fill(pools, 1.0)
    assert {name(pools, "p", now=1.1), name(pools, "q", now=1.1)} <= {A, B, C}
    pools.attend(Heard(1, 1))
    pools.hear([Sent(A, 50, 1e5, 0.0), Sent("10.9.9.9:80", 1, 1.0, 0.0)], 1.1)
    assert [name(pools, cluster, now=1.1) for cluster in ("p", "q") for _ in range(3)] == [B] * 3 + [C] * 3


def test_how_a_request_began_is_for_the_chooser_of_the_same_clusters_alone() -> None:
    told = {"p": pool(A, B), "q": pool(A, B, C)}
    one, other = build(), build()
    for pools in (one, other):
        pools.tell(Texts(told, {}), 1.0)
        fill(pools, 1.0)
        pools.attend(Heard(1, 1))
    asked = Asked(8192, None, ("0" * 8,) * 8, shared=True)
    for clusters in (("p",), ("q",)):
        other.choose(clusters, Asked(), 1.1)
    choice = one.choose(("p",), asked, 1.1)
    assert choice.member is not None
    assert choice.begun is not None
    other.hear([choice.begun], 1.2)
    hits = [{j.address for j in other.choose((name,), asked, 1.2).judged if j.hit} for name in ("p", "q")]
    assert hits == [{choice.member.address}, set()]


def test_the_nodes_of_all_pools_share_what_is_remembered_as_long_as_they_are_there() -> None:
    made: list[Chooser] = []
    pools = Pools(lambda pool: made.append(one := Chooser(random.Random(1).random, pool=pool)) or one)
    many = {f"p{number}": pool(*(f"10.{number}.0.{node}:80" for node in range(100))) for number in range(4)}
    pools.tell(Texts(many, {}), 1.0)
    kept = []
    for number in range(4):
        pools.choose((f"p{number}",), Asked(), 1.0)
        kept.append(made[0]._beginnings._affinity._kept)
    assert kept == [2000, 1000, 666, 500]
    pools.tell(Texts({"p0": many["p0"]}, {}), 2.0)
    assert made[0]._beginnings._affinity._kept == 2000


def test_beyond_the_most_the_one_used_longest_ago_is_given_up() -> None:
    made: list[Chooser] = []
    pools = Pools(lambda pool: made.append(one := Chooser(random.Random(1).random, pool=pool)) or one)
    pools.tell(Texts({f"p{number}": pool(A) for number in range(CHOOSERS_MAXIMUM + 1)}, {}), 1.0)
    for number in range(CHOOSERS_MAXIMUM):
        pools.choose((f"p{number}",), Asked(), 1.0)
    pools.choose(("p0",), Asked(), 1.0)
    pools.choose((f"p{CHOOSERS_MAXIMUM}",), Asked(), 1.0)
    pools.choose(("p0",), Asked(), 1.0)
    assert len(made) == CHOOSERS_MAXIMUM + 1
