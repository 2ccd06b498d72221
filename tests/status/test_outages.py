"""Since when a server is out of service, and that its reason says so before it says anything of weights."""

from __future__ import annotations

from support.reports import make_endpoint, make_node
from weighbridge_api.modelnode import ModelNode
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.envoys import EnvoyRound, EnvoyState, spell
from weighbridge_operator.sources.targets import list_owners
from weighbridge_operator.state import DesiredState
from weighbridge_operator.tally import PROBATION, Tally
from weighbridge_operator.views.words import reason_of

NODE = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "ModelNode",
    "metadata": {"name": "a"},
    "spec": {"engine": "vllm", "address": {"host": "10.0.0.1", "port": 1}, "models": [{"name": "m"}]},
}


def test_an_outage_lasts_until_the_server_has_been_back_for_a_while() -> None:
    gateway = resolve(DesiredState((ModelNode.from_file(NODE),)), Scope()).gateway
    (((cluster, address), owner),) = list_owners(gateway).items()
    place, tally = (spell(cluster), address), Tally()

    def take(now: float, *healthy: bool) -> float | None:
        states = {str(n): EnvoyState(now, {}, {place: up}, {}, 0, live=True) for n, up in enumerate(healthy)}
        return tally.take(gateway, EnvoyRound(states, {}), None, now).down.get(owner)

    assert take(0.0, True, True) is None
    assert take(10.0, True, False) == 0.0  # one Envoy of two is enough
    assert take(14.0, False, False) == 4.0
    # An ejection ends to see whether the node is back; it was not.
    assert take(15.0, True, True) is None
    assert take(17.0, False, True) == 7.0
    assert take(18.0, True, True) is None
    assert take(18.0 + PROBATION, False, True) == 0.0
    assert take(99.0) is None  # no Envoy can be asked: nothing is known


def test_a_dead_nodes_reason_begins_with_that() -> None:
    error = "10.0.0.1:1/metrics cannot be connected to (Connection refused)"
    reason = f"weight 8 of 16: room as all, no usable numbers for 12 s ({error}), so what they said fades"
    dead = make_endpoint(healthy=False, down=83.0, error=error, reason=reason)
    assert reason_of(make_node("a", dead), dead) == (
        f"out of service for 83 s (ejected, or its health check fails): {error}; "
        "weight 8 of 16: room as all, no usable numbers for 12 s, so what they said fades"
    )
    ill = make_endpoint(healthy=False, down=None, error=None, reason="weight 8 of 16: room as all")
    told = "out of service (ejected, or its health check fails); weight 8 of 16: room as all"
    assert reason_of(make_node("a", ill), ill) == told
    well = make_endpoint(error=error, reason=reason)
    assert reason_of(make_node("a", well), well) == reason
