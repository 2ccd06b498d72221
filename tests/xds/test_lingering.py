"""Chains that no route names any more stay for a while, with all that they lead to, and go."""

from __future__ import annotations

from dataclasses import replace

from weighbridge_comparison.law import make_endpoint
from weighbridge_operator.core import ir
from weighbridge_operator.xds.cluster import translate_chain, translate_first, translate_part
from weighbridge_operator.xds.endpoint import assign
from weighbridge_operator.xds.kinds import CLUSTER
from weighbridge_operator.xds.lingering import LINGERS, MOST, Lingering
from weighbridge_operator.xds.names import name_cluster
from weighbridge_operator.xds.snapshot import Snapshot, build, pack


def part(name: str) -> ir.Part:
    return ir.Part(name, (make_endpoint(f"default/{name}"),), None, None)


def snap(*parts: ir.Part, chains: dict[str, tuple[str, ...]] | None = None) -> Snapshot:
    """Clusters of these parts, and chains of them."""
    clusters = [translate_part(each, adapts=False, budget=100.0) for each in parts]
    for name, members in (chains or {}).items():
        named = tuple(name_cluster(member) for member in members)
        clusters.append(translate_chain(name, named, adapts=False, budget=100.0, credentials=()))
    return build(clusters=clusters, endpoints=[assign(each, {}) for each in parts])


def test_a_chain_that_went_stays_until_its_time_is_over() -> None:
    lingering, a, b = Lingering(), part("a"), part("b")
    before, after = snap(a, b, chains={"c": ("a", "b")}), snap(a, b)
    kept = lingering.keep(before, after, 0.0)
    assert kept.clusters["c"] == before.clusters["c"]
    assert not lingering.is_over(LINGERS - 1)
    assert lingering.keep(kept, after, LINGERS - 1).clusters.keys() == kept.clusters.keys()
    assert lingering.is_over(LINGERS)
    assert lingering.keep(kept, after, LINGERS) == after
    assert not lingering.is_over(LINGERS)


def test_a_chain_of_a_part_that_went_goes_with_it() -> None:
    a, b = part("a"), part("b")
    assert Lingering().keep(snap(a, b, chains={"c": ("a", "b")}), snap(b), 0.0) == snap(b)


def test_a_chain_of_chains_stays_with_what_it_leads_to() -> None:
    a, b = part("a"), part("b")
    before = snap(a, b, chains={"c": ("a", "b")})
    first = translate_first("f", name_cluster("a"), "c", adapts=False, budget=100.0, credentials=())
    before = before.with_more(pack(CLUSTER, first))
    assert set(Lingering().keep(before, snap(a, b), 0.0).clusters) == {"c", "f", name_cluster("a"), name_cluster("b")}
    assert Lingering().keep(before, snap(a), 0.0) == snap(a)


def test_one_that_comes_again_is_as_it_is_told() -> None:
    lingering, a, b = Lingering(), part("a"), part("b")
    with_chain, without = snap(a, b, chains={"c": ("a", "b")}), snap(a, b)
    kept = lingering.keep(with_chain, without, 0.0)
    again = snap(a, b, chains={"c": ("b", "a")})
    assert lingering.keep(kept, again, 1.0) == again
    assert not lingering.is_over(2 * LINGERS)


def test_what_needs_a_secret_that_is_gone_is_not_kept() -> None:
    lingering, a, b = Lingering(), part("a"), part("b")
    before = snap(a, b, chains={"c": ("a", "b")})
    chain = before.clusters["c"]
    needs = (*chain.needs, ("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "key"))
    before = before.with_more(replace(chain, needs=tuple(sorted(needs))))
    assert lingering.keep(before, snap(a, b), 0.0) == snap(a, b)


def test_they_are_bounded() -> None:
    lingering, a, b = Lingering(), part("a"), part("b")
    held = snap(a, b)
    for number in range(MOST + 10):
        held = lingering.keep(held, snap(a, b, chains={f"c{number}": ("a", "b")}), float(number))
    assert len(held.clusters) == MOST + 3
    assert f"c{MOST}" in held.clusters
    assert "c0" not in held.clusters
