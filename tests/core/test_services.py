"""A node that names a Service: each ready endpoint is a server of its own, and what is lacking is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.stack import node, policy
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.core import ir
from weighbridge_operator.core.resolve import Resolved, resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.targets import list_targets
from weighbridge_operator.state import DesiredState, ServiceEndpoint, ServiceState

CLUSTER = Scope(cluster=True, refused=frozenset({"10.96.0.1"}))
PORTS = (("", 80),)


def pod(number: int, *, ready: bool = True, terminating: bool = False, port: str = "") -> ServiceEndpoint:
    return ServiceEndpoint(f"10.1.0.{number}", f"pod-{number}", ((port, 8000 + number),), ready, terminating)


def backed(name: str = "qwen", port: int | str = 80, **spec: Any) -> dict[str, Any]:
    made = node(name, 1, **spec)
    del made["spec"]["address"]
    made["spec"]["service"] = {"name": "qwen", "port": port}
    return made


def settle(
    *objects: dict[str, Any], state: ServiceState | None = None, scope: Scope = CLUSTER, envoys: tuple[str, ...] = ()
) -> tuple[Resolved, DesiredState]:
    desired = DesiredState(
        nodes=tuple(ModelNode.from_file(o) for o in objects if o["kind"] == "ModelNode"),
        policies=tuple(RoutePolicy.from_file(o) for o in objects if o["kind"] == "RoutePolicy"),
        services={("default", "qwen"): state} if state else {},
        envoys=frozenset(envoys),
        authorities=b"pem",
    )
    return resolve(desired, scope), desired


def servers(resolved: Resolved) -> dict[str, str]:
    return {e.node: f"{e.address}:{e.port}" for pool in resolved.gateway.pools for e in pool.endpoints}


def test_each_ready_endpoint_is_weighed_on_its_own_and_a_terminating_one_gets_nothing_new() -> None:
    endpoints = (pod(1), pod(2), pod(3, ready=False), pod(4, terminating=True))
    found, desired = settle(backed(), state=ServiceState(PORTS, endpoints))
    assert servers(found) == {"default/qwen/pod-1": "10.1.0.1:8001", "default/qwen/pod-2": "10.1.0.2:8002"}
    assert {e.model_node for e in found.gateway.pools[0].endpoints} == {"default/qwen"}
    assert found.findings == ()
    targets = {target.node: target.urls for target in list_targets(found, desired)}
    assert targets["default/qwen/pod-2"] == ("http://10.1.0.2:8002/metrics",)


def other(port: int) -> dict[str, Any]:
    return node("other", 1, address={"host": "10.1.0.9", "port": port})


def test_what_was_resolved_before_holds_as_long_as_nothing_that_it_rests_upon_has_changed() -> None:
    whole, scope = ServiceState(PORTS, (pod(1), pod(2))), replace(CLUSTER, entrance=("0.0.0.0", 8001))
    known, _ = settle(backed(), other(2), state=whole, scope=scope)
    edits: list[tuple[tuple[dict[str, Any], ...], dict[str, Any]]] = [
        ((backed(), other(2)), {"state": ServiceState(PORTS, (pod(1),))}),
        ((backed(), other(2)), {"state": None}),
        ((backed(), other(2)), {"state": whole, "envoys": ("10.1.0.1",)}),
        ((backed(), other(2)), {"state": whole, "scope": Scope("elsewhere", cluster=True)}),
        ((backed(), other(3)), {"state": whole}),
        ((backed(),), {"state": whole}),
    ]
    for objects, given in edits:
        fresh, desired = settle(*objects, **{"scope": scope, **given})
        found = resolve(desired, given.get("scope", scope), known)
        assert found == fresh
        assert found != known, given
    same, desired = settle(backed(), other(2), policy("p"), state=whole, scope=scope)
    assert resolve(desired, scope, known).roster is known.roster
    assert resolve(desired, scope, known) == same


@pytest.mark.parametrize(
    ("wanted", "ports", "named", "expected"),
    [
        ("http", (("grpc", 81), ("http", 80)), "http", 8001),
        (80, (("grpc", 81), ("http", 80)), "http", 8001),
        (8000, (), "", 8000),
    ],
    ids=["by name", "by the Service's number, whatever the pod's is", "a headless Service that lists no ports"],
)
def test_a_port_is_found(wanted: int | str, ports: tuple[tuple[str, int], ...], named: str, expected: int) -> None:
    found, _ = settle(backed(port=wanted), state=ServiceState(ports, (pod(1, port=named),)))
    assert servers(found) == {"default/qwen/pod-1": f"10.1.0.1:{expected}"}


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (None, "ServiceNotFound", "spec.service: there is no Service qwen in namespace default"),
        (ServiceState((("http", 8000),)), "PortNotFound", "Service qwen has no port 80; it has http 8000"),
        (ServiceState(PORTS), "NoEndpoints", "it has no endpoints; does its selector match a pod?"),
        (
            ServiceState(PORTS, (pod(1, ready=False), pod(2, ready=False, terminating=True))),
            "NoEndpoints",
            "no endpoint is ready (1 not ready, 1 terminating); look at its pods",
        ),
        (
            ServiceState(PORTS, (ServiceEndpoint("10.96.0.1", "", (("", 443),), True),)),
            "NoEndpoints",
            "no endpoint is ready (1 at an address that no node may have)",
        ),
    ],
)
def test_what_a_service_lacks_is_said(state: ServiceState | None, reason: str, words: str) -> None:
    found, _ = settle(backed(), state=state)
    (finding,) = found.findings
    assert (finding.condition, finding.reason) == ("ResolvedRefs", reason)
    assert words in finding.message


def test_in_files_there_are_no_services() -> None:
    found, _ = settle(backed(), scope=Scope())
    assert [f.message for f in found.findings] == [
        "spec.service: Services exist only in a cluster; give spec.address instead"
    ]


def test_a_model_whose_endpoints_are_all_away_is_still_offered_and_its_share_goes_to_the_others() -> None:
    models = [{"name": "m", "version": "1"}]
    static = node("static", 1, models=[{"name": "m", "version": "2"}], address={"host": "10.0.0.1", "port": 1})
    canary = policy("p", versions=[{"version": "1", "share": 40}, {"version": "2", "share": 60}])
    away, _ = settle(backed(models=models), static, canary, state=ServiceState(PORTS))
    rule = next(e.rules[0] for e in away.gateway.entries if e.key == "m")
    assert [branch.share for branch in rule.branches] == [100.0]
    alone, _ = settle(backed(models=models), state=ServiceState(PORTS))
    keys = [entry.key for entry in alone.gateway.entries]
    assert keys == ["", "m", "m@1"]
    assert all(pool.endpoints == () for pool in alone.gateway.pools)


def test_tls_asks_for_the_services_name() -> None:
    found, _ = settle(backed(tls={}), state=ServiceState(PORTS, (pod(1),)))
    (endpoint,) = found.gateway.pools[0].endpoints
    assert endpoint.tls == ir.Tls("qwen.default.svc", None)


def test_loopback_and_the_api_servers_address_are_nobodys_node() -> None:
    objects = [node(n, 1, address={"host": h, "port": 443}) for n, h in (("a", "127.0.0.1"), ("b", "10.96.0.1"))]
    found, _ = settle(*objects)
    told = {f.ref.name: f.message for f in found.findings}
    assert "is a loopback address" in told["a"]
    assert "is the API server's own address" in told["b"]


def test_a_policy_speaks_for_its_own_namespace_and_takes_no_others_requests() -> None:
    def place(made: dict[str, Any], namespace: str) -> dict[str, Any]:
        made["metadata"]["namespace"] = namespace
        return made

    scope = Scope("default", frozenset({"b"}))
    other = node("n", 2, "shared", address={"host": "10.0.0.2", "port": 2})
    sly = place(policy("chat", match={"models": ["mine"]}), "b")
    objects = [
        node("n", 1, "mine", address={"host": "10.0.0.1", "port": 1}),
        place(other, "b"),
        policy("chat", match={"models": ["mine", "shared"]}),
        sly,
    ]
    found, _ = settle(*objects, scope=scope)
    mine = next(e.rules for e in found.gateway.entries if e.key == "mine")
    assert [rule.policy for rule in mine] == ["default/chat"]
    assert "NoModel" in {f.reason for f in found.findings if f.ref.namespace == "b"}
    assert servers(found) == {"default/n": "10.0.0.1:1", "b/n": "10.0.0.2:2"}


def test_a_service_that_leads_to_the_gateways_own_envoys_is_refused() -> None:
    scope = Scope(cluster=True, entrance=("0.0.0.0", 8001))
    state = ServiceState(PORTS, (pod(1),))
    found, _ = settle(backed(), state=state, scope=scope, envoys=("10.1.0.1",))
    assert servers(found) == {}
    assert [(f.condition, f.reason) for f in found.findings] == [("Accepted", "AddressRefused")]
    assert "Service qwen leads to the gateway's own entrance; name the Service" in found.findings[0].message
    # Another port of the same machine, or a pod beside them that is none of ours, is a server like any.
    scope = Scope(cluster=True, entrance=("0.0.0.0", 8080))
    assert len(servers(settle(backed(), state=state, scope=scope, envoys=("10.1.0.1",))[0])) == 1
    both = ServiceState(PORTS, (pod(1), pod(2)))
    scope = Scope(cluster=True, entrance=("0.0.0.0", 8001))
    assert list(servers(settle(backed(), state=both, scope=scope, envoys=("10.1.0.1",))[0])) == ["default/qwen/pod-2"]


def test_the_address_of_an_own_envoy_is_refused() -> None:
    scope = Scope(cluster=True, entrance=("0.0.0.0", 8080))
    asked = node("a", 8080, address={"host": "10.1.0.1", "port": 8080})
    found, _ = settle(asked, scope=scope, envoys=("10.1.0.1",))
    assert "10.1.0.1 is the gateway's own entrance" in found.findings[0].message
