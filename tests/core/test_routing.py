"""Which requests go where, and what is told of an object that can't be honoured."""

from __future__ import annotations

from typing import Any

import pytest

from support.stack import node, policy
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.core import ir
from weighbridge_operator.core.resolve import Resolved, resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.state import DesiredState

IN_CLUSTER = Scope(cluster=True)


def settle(*objects: dict[str, Any], scope: Scope | None = None, **known: Any) -> Resolved:
    nodes = tuple(ModelNode.from_file(o) for o in objects if o["kind"] == "ModelNode")
    policies = tuple(RoutePolicy.from_file(o) for o in objects if o["kind"] == "RoutePolicy")
    return resolve(DesiredState(nodes, policies, **known), scope or Scope())


def rules(resolved: Resolved, key: str, kind: str = "text") -> tuple[ir.Rule, ...]:
    return next(e.rules for e in resolved.gateway.entries if (e.kind, e.key) == (ir.Kind(kind), key))


def serving(resolved: Resolved, destination: ir.Destination) -> list[str]:
    return [e.node.partition("/")[2] for e in resolved.gateway.pool(destination.pool).endpoints]


def told(resolved: Resolved) -> dict[str, str]:
    return {finding.reason: f"{finding.ref.name}: {finding.message}" for finding in resolved.findings}


def test_the_most_specific_policy_speaks_and_the_loser_is_told_who_won() -> None:
    found = settle(
        node("a", 1, "qwen-7b"),
        policy("all"),
        policy("prefix", match={"models": ["qwen-*"]}),
        policy("exact", match={"models": ["qwen-7b"]}),
        policy("header", match={"models": ["qwen-7b"], "headers": {"x-team": "search"}}),
    )
    assert [rule.policy for rule in rules(found, "qwen-7b")] == ["default/header", "default/exact"]
    overruled = {f.ref.name: f.message for f in found.findings if f.reason == "Overruled"}
    assert overruled.keys() == {"all", "prefix"}
    assert all("default/exact" in message for message in overruled.values())


def test_a_policy_without_models_speaks_for_what_its_nodes_serve() -> None:
    labelled = policy("chat", nodes={"matchLabels": {"pool": "chat"}})
    found = settle(node("a", 1, "m", labels={"pool": "chat"}), node("b", 2, "other"), labelled)
    assert rules(found, "m")[0].policy == "default/chat"
    assert rules(found, "other")[0].policy is None


def test_a_fallback_goes_to_nodes_that_serve_it_though_the_policy_names_others() -> None:
    labelled = policy("chat", nodes={"matchLabels": {"pool": "chat"}}, fallback=[{"model": "small"}])
    found = settle(node("a", 1, "m", labels={"pool": "chat"}), node("b", 2, "small"), labelled)
    (branch,) = rules(found, "m")[0].branches
    assert [serving(found, destination) for destination in branch.destinations] == [["a"], ["b"]]


def test_equal_sets_of_nodes_are_one_pool() -> None:
    models = [{"name": "m"}, {"name": "n"}]
    found = settle(node("a", 1, models=models), node("b", 2, models=models), node("c", 3, "n"))
    sets = [[e.node for e in pool.endpoints] for pool in found.gateway.pools]
    assert sorted(sets) == [["default/a", "default/b"], ["default/a", "default/b", "default/c"]]


def test_a_pool_tells_all_that_leads_to_it() -> None:
    models = [{"name": "m", "version": "1"}, {"name": "n"}]
    found = settle(node("a", 1, models=models), policy("p", match={"models": ["n"]}))
    (pool,) = found.gateway.pools
    assert pool.serves == ("default: m", "default: m@1", "p: n")
    assert pool.name == "default: m"


def test_a_policy_called_default_is_not_taken_for_none() -> None:
    own = policy("default", match={"headers": {"x-team": "a"}}, balance={"profile": "classic"})
    pools = settle(node("a", 1, "m"), own).gateway.pools
    assert [pool.name for pool in pools] == ["default: m", "policy default: m"]


def test_shares_of_versions_nobody_serves_go_to_the_others() -> None:
    canary = policy("p", versions=[{"version": v, "share": s} for v, s in (("1", 60), ("2", 20), ("3", 20))])
    found = settle(node("a", 1, models=[{"name": "m", "version": v} for v in ("1", "2")]), canary)
    assert [branch.share for branch in rules(found, "m")[0].branches] == [75.0, 25.0]
    assert "no node serves version 3" in told(found)["VersionNotServed"]


def test_a_request_without_a_model_takes_the_default_or_the_only_one() -> None:
    assert rules(settle(node("a", 1, "m")), "")[0].default == "m"
    two = (node("a", 1, "m"), node("b", 2, "n"))
    assert rules(settle(*two), "") == ()
    assert rules(settle(*two, policy("p", defaultModel="n")), "")[0].default == "n"
    assert "no node serves zzz" in told(settle(*two, policy("p", defaultModel="zzz")))["DefaultNotServed"]


def test_a_policy_without_types_means_those_that_its_default_and_fallback_serve() -> None:
    mixed = node("a", 1, models=[{"name": "m"}, {"name": "k"}, {"name": "e", "types": ["embedding"]}])
    asks: dict[str, Any] = {"defaultModel": "m", "fallback": [{"model": "k"}]}
    found = settle(mixed, policy("p", **asks))
    assert told(found) == {}
    assert [rules(found, "", kind)[0].default for kind in ("text", "embedding")] == ["m", "e"]
    assert [
        len(rules(found, key, kind)[0].branches[0].destinations) for key, kind in (("m", "text"), ("e", "embedding"))
    ] == [2, 1]
    named = told(settle(mixed, policy("p", match={"types": ["text", "embedding"]}, **asks)))
    assert named == {
        "DefaultNotServed": "p: spec.defaultModel: no node serves m for embedding requests; correct it, or add a node",
        "FallbackNotServed": "p: spec.fallback: no node serves k for embedding requests; correct it, or add a node",
    }
    useless = told(settle(mixed, policy("p", match={"models": ["e"]}, fallback=[{"model": "k"}])))
    assert "no node serves k for embedding requests" in useless["FallbackNotServed"]


@pytest.mark.parametrize(
    ("host", "reason"),
    [("169.254.0.1", "AddressRefused"), ("127.0.0.1", "AddressRefused"), ("gone.example", "AddressNotFound")],
)
def test_a_node_that_cannot_be_sent_to_is_left_out_and_says_why(host: str, reason: str) -> None:
    bad = node("bad", 1, address={"host": "10.0.0.1", "port": 1})
    if host == "169.254.0.1":
        # Refused as a literal when it is read; a name may still lead there.
        bad["spec"]["address"]["host"] = "sly.example"
    else:
        bad["spec"]["address"]["host"] = host
    good = node("good", 2, address={"host": "10.0.0.2", "port": 2})
    found = settle(bad, good, scope=IN_CLUSTER, addresses={"sly.example": "169.254.0.1"})
    assert [n.metadata.name for n in found.nodes] == ["good"]
    assert told(found)[reason].startswith("bad: spec.address.host")


@pytest.mark.parametrize(
    ("listens", "host", "port", "refused"),
    [
        ("10.0.0.1", "10.0.0.1", 8080, True),
        ("0.0.0.0", "127.0.0.1", 8080, True),
        ("::", "::1", 8080, True),
        ("10.0.0.1", "10.0.0.1", 8081, False),
        ("10.0.0.1", "10.0.0.2", 8080, False),
        ("0.0.0.0", "10.0.0.2", 8080, False),
        ("localhost", "127.0.0.1", 8081, False),
    ],
)
def test_the_gateways_own_entrance_is_no_node(listens: str, host: str, port: int, refused: bool) -> None:
    asked = node("a", 1, address={"host": host, "port": port})
    found = settle(asked, scope=Scope(entrance=(listens, 8080)))
    assert (found.nodes == ()) is refused
    if refused:
        assert f"{host} is the gateway's own entrance" in told(found)["AddressRefused"]


def test_secrets_that_envoy_would_refuse_are_named_and_never_shown() -> None:
    spec: dict[str, Any] = {"credentials": {"secretRef": {"name": "s", "key": "k"}}}
    missing = settle(node("a", 1, **spec))
    assert "no Secret s" in told(missing)["SecretNotFound"]
    broken = settle(node("a", 1, **spec), secrets={("default", "s"): {"k": b"hidden\r\nx: y"}})
    assert "entry k of Secret s" in told(broken)["SecretInvalid"]
    assert "hidden" not in repr(broken)
    ca = settle(node("a", 1, tls={"caSecretRef": {"name": "s"}}), secrets={("default", "s"): {"ca.crt": b"no"}})
    assert "PEM" in told(ca)["SecretInvalid"]


def test_tls_needs_authorities_of_the_system_or_of_its_own() -> None:
    alone = settle(node("a", 1, tls={}))
    assert alone.nodes == ()
    assert "caSecretRef" in told(alone)["AuthoritiesNotFound"]
    assert settle(node("a", 1, tls={}), authorities=b"pem").findings == ()


def test_objects_of_another_namespace_are_told_so_and_disturb_nothing() -> None:
    other = node("a", 1, "m")
    other["metadata"]["namespace"] = "elsewhere"
    found = settle(other, node("b", 2, "m"))
    assert [n.metadata.name for n in found.nodes] == ["b"]
    assert "serves namespace default" in told(found)["NamespaceNotServed"]


def drawn(name: str, made: str, uid: str, precise: bool = True) -> dict[str, Any]:
    told = policy(name, balance={"precise": precise}, match={"models": ["m"], "headers": {"x": name}})
    told["metadata"] |= {"uid": uid, "creationTimestamp": made}
    return told


def test_how_requests_begin_is_hashed_by_what_was_drawn_for_the_oldest_policy_that_lets_nodes_be_named() -> None:
    one = node("a", 9001, "m")
    old, young = drawn("b", "2026-01-01T00:00:00Z", "old"), drawn("a", "2026-02-01T00:00:00Z", "young")
    assert settle(one, old, young).gateway.seed == settle(one, young, old).gateway.seed == "old"
    assert settle(one, drawn("b", "2026-01-01T00:00:00Z", "old", precise=False), young).gateway.seed == "young"
    assert settle(one, drawn("b", "", ""), young).gateway.seed == "young"
    assert settle(one, policy("files", balance={"precise": True})).gateway.seed == ""
