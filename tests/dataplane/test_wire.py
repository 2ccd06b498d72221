"""What the operator tells through Envoy's runtime is what the data plane reads: one test of both ends."""

from __future__ import annotations

import json
import random
from typing import Any

from google.protobuf import json_format

from weighbridge_api.wire import OTHERS, POOL
from weighbridge_comparison.law import make_endpoint
from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.facts import Asked
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.readings import Texts, read_others, read_pool, read_runtime
from weighbridge_operator.core import ir
from weighbridge_operator.state import LoadRound, Pages
from weighbridge_operator.xds.precise import count_others, list_choices

A, B = "10.0.0.1:8000", "10.0.0.2:8000"
OWNERS = {("c", A): ("pool", "default/a"), ("c", B): ("pool", "default/b"), ("d", A): ("other", "default/a")}


def as_envoy_shows(*layers: Any) -> Texts:
    """Through the page of Envoy's administration interface."""
    entries: dict[str, Any] = {}
    for layer in layers:
        fields = json_format.MessageToDict(layer).get("layer", {})
        entries |= {name: {"final_value": text, "layer_values": [text]} for name, text in fields.items()}
    texts = read_runtime(json.dumps({"entries": entries, "layers": []}).encode())
    assert texts is not None
    return texts


def test_nodes_arrive_as_they_were_told() -> None:
    part = ir.Part("p", (make_endpoint("default/a", 2.0),), None, None)
    pages = {"default/a": Pages(("http://10.0.0.1:8000/metrics",), '{"queue": {"metric": "q"}}')}
    texts = as_envoy_shows(list_choices({"c": part}, pages))
    (member,) = read_pool("c", texts.pools["c"])
    assert (member.address, member.cluster, member.node, member.engine) == (A, "c", "default/a", "vllm")
    assert (member.metrics, member.capacity) == (("http://10.0.0.1:8000/metrics",), 2.0)
    assert member.mapping == (("queue", '{"metric": "q"}'),)
    assert (POOL + "c", OTHERS + "c") == ("weighbridge.pool.c", "weighbridge.others.c")


def test_several_envoys_their_counts_and_doubts_arrive() -> None:
    load = LoadRound(7.0, {}, {("pool", "default/a"): 5, ("pool", "default/b"): 0})
    texts = as_envoy_shows(count_others(OWNERS, {"c"}, load, 3, {("pool", "default/b")}))
    assert texts.others.keys() == {"c"}
    others = read_others(texts.others["c"])
    assert others is not None
    assert (others.envoys, others.active, others.suspect) == (3, {A: 5, B: 0}, {B})


def test_how_many_envoys_there_are_arrives_without_their_counts() -> None:
    others = read_others(as_envoy_shows(count_others(OWNERS, {"c"}, None, 2)).others["c"])
    assert others is not None
    assert (others.envoys, others.active) == (2, {})


def test_of_one_envoy_without_doubt_nothing_is_said() -> None:
    load = LoadRound(7.0, {}, {})
    assert as_envoy_shows(count_others(OWNERS, {"c"}, load, 1)).others == {}
    assert as_envoy_shows(count_others(OWNERS, {"c"}, load, 1, {("pool", "default/a")})).others.keys() == {"c"}


def test_the_chooser_knows_how_many_choose_beside_it() -> None:
    told: list[int] = []

    class Told(Chooser):
        def tell(self, members: Any, envoys: int) -> None:
            told.append(envoys)
            super().tell(members, envoys)

    part = ir.Part("p", (make_endpoint("default/a"),), None, None)
    pools = Pools(lambda _: Told(random.Random(1).random))
    nodes = list_choices({"c": part}, {})
    pools.tell(as_envoy_shows(nodes), 1.0)
    pools.choose(("c",), Asked(), 1.0)
    pools.tell(as_envoy_shows(nodes, count_others(OWNERS, {"c"}, None, 3)), 2.0)
    pools.tell(as_envoy_shows(nodes, count_others(OWNERS, {"c"}, LoadRound(3.0, {}, {}), 3)), 3.0)
    pools.tell(as_envoy_shows(nodes), 4.0)
    assert told == [1, 3, 1]
