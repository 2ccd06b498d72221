"""Pages of Envoy and of nodes, read for the choice; what others wrote never raises."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.envoy import RealEnvoy
from weighbridge_dataplane.facts import Counts, Sample
from weighbridge_dataplane.readings import (
    PAGES_MAXIMUM,
    CountsReading,
    Texts,
    cut,
    filter_counts,
    find_table,
    read_counts,
    read_others,
    read_pool,
    read_runtime,
    read_sample,
)

FIXTURES = Path(__file__).parents[1] / "sources" / "fixtures"
LINES = """cluster.p.endpoint.10.0.0.1_8000.cx_connect_fail: 1
cluster.p.endpoint.10.0.0.1_8000.rq_error: 2
cluster.p.endpoint.10.0.0.1_8000.rq_timeout: 4
cluster.p.endpoint.10.0.0.1_8000.rq_total: 99
cluster.p.endpoint.10.0.0.1_8000.rq_active: 3
cluster.p.endpoint.10.0.0.1_8000.rq_pending_active: 5
cluster.p.endpoint.10.0.0.1_8000.healthy: 1
"""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def described(**more: Any) -> dict[str, Any]:
    return {"address": "10.0.0.1:8000", "node": "default/a", "engine": "vllm"} | more


def test_requests_that_wait_count_and_every_failure_is_one() -> None:
    assert read_counts(LINES.encode()) == {"p": {"10.0.0.1:8000": Counts(8, 7, True, 99)}}


@given(st.integers(1, 200))
def test_a_page_is_the_same_in_pieces(size: int) -> None:
    pieces = list(cut(LINES.encode(), size))
    assert b"".join(pieces) == LINES.encode()
    assert all(piece.endswith(b"\n") for piece in pieces)
    reading = CountsReading()
    for piece in pieces:
        reading.take(piece)
    assert reading.finish() == read_counts(LINES.encode())


@pytest.mark.parametrize("left_out", range(7))
def test_an_endpoint_with_half_of_its_counts_is_unknown(left_out: int) -> None:
    lines = LINES.splitlines()
    del lines[left_out]
    assert read_counts("\n".join(lines).encode()) == {}


@pytest.mark.envoy
async def test_the_real_envoys_pages_are_read_ipv6_and_ejected_endpoints_too() -> None:
    def endpoint(host: str, port: int, **more: str) -> dict[str, Any]:
        return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} | more

    def cluster(name: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
        assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": list(endpoints)}]}
        told = {"track_cluster_stats": {"per_endpoint_stats": True}}
        return {"name": name, "type": "STATIC", "load_assignment": assignment} | told

    pool = json.dumps({"nodes": [described()]})
    clusters = [
        cluster("p.q/r:1", endpoint("127.0.0.1", 1), endpoint("2001:db8:0:0:1::1", 2, health_status="UNHEALTHY")),
        cluster("other", endpoint("::1", 3)),
    ]
    layer = {"weighbridge.pool.a/b": pool, "weighbridge.others.a/b": "[1", "weighbridge.pool.c": 7, "x": "y"}
    bootstrap = {
        "static_resources": {"clusters": clusters},
        "layered_runtime": {"layers": [{"name": "s", "static_layer": layer}]},
    }
    async with RealEnvoy(bootstrap) as envoy:
        page = await envoy.admin(f"/stats?filter={filter_counts(['p.q/r:1'])}")
        assert read_counts(page.encode()) == {
            "p.q/r_1": {
                "127.0.0.1:1": Counts(0, 0, True, 0),
                "[2001:db8::1:0:0:1]:2": Counts(0, 0, False, 0),
            }
        }
        every = await envoy.admin(f"/stats?filter={filter_counts([f'cluster-{i:04}' for i in range(1000)])}")
        assert read_counts(every.encode()).keys() == {"p.q/r_1", "other"}
        texts = read_runtime((await envoy.admin("/runtime")).encode())
        assert texts == Texts({"a/b": pool, "c": "7"}, {"a/b": "[1"})


def test_a_pool_has_what_is_described_well() -> None:
    mapping = {"queue": {"metric": "q"}, "kv": {"metric": "kv", "divisor": 100}}
    nodes = [
        described(capacity=4, metrics=["http://10.0.0.1:8000/metrics", "https://x/", "http://name/m", "file:///etc"]),
        described(address="[2001:db8::1]:80", engine="custom", mapping=mapping),
        described(address="name:80"),
        described(address="10.0.0.2:80", capacity=float("nan"), metrics=["http://10.0.0.2:1/"] * 20),
        {"address": "10.0.0.3:80"},
        7,
    ]
    first, second, third = read_pool("p", json.dumps({"nodes": nodes}))
    assert (first.cluster, first.node, first.capacity) == ("p", "default/a", 4.0)
    assert first.metrics == ("http://10.0.0.1:8000/metrics",)
    assert [name for name, _ in second.mapping] == ["kv", "queue"]
    assert (third.capacity, len(third.metrics)) == (None, PAGES_MAXIMUM)


@given(st.lists(json_values, max_size=4), json_values)
def test_no_text_of_a_pool_or_of_others_raises(nodes: list[Any], envoys: Any) -> None:
    others = read_others(json.dumps({"envoys": envoys}))
    assert others is not None
    assert 1 <= others.envoys <= 10_000
    read_pool("p", json.dumps({"nodes": nodes}))
    strange = [described(metrics=each, capacity=each, mapping=each) for each in nodes]
    for member in read_pool("p", json.dumps({"nodes": strange})):
        find_table("custom", member.mapping)


@given(json_values | st.text())
def test_no_text_raises(told: Any) -> None:
    text = told if isinstance(told, str) else json.dumps(told)
    read_pool("p", text)
    read_others(text)
    read_runtime(text.encode("utf-8", "surrogatepass"))


def test_a_text_that_is_too_deep_is_none() -> None:
    deep = "[" * 100_000
    assert read_others(deep) is None
    assert read_runtime(deep.encode()) is None
    assert read_pool("p", deep) == ()


@given(st.binary(max_size=200) | st.text(string.printable, max_size=200).map(str.encode))
def test_no_page_raises(page: bytes) -> None:
    read_counts(page)
    table = find_table("vllm")
    assert table is not None
    read_sample(table, [page], {}, 0.0)


def test_what_others_have_in_flight_is_unknown_where_it_is_unreadable() -> None:
    others = read_others('{"at": 1, "active": {"a:1": 12, "b:1": -1, "c:1": "x"}, "suspect": ["d:1", 7]}')
    assert others is not None
    assert (others.active, others.suspect) == ({"a:1": 12}, frozenset({"d:1"}))
    assert read_others('{"active": 7}') is None


@pytest.mark.parametrize(
    ("engine", "page"),
    [
        ("vllm", "vllm-0.10"),
        ("vllm", "vllm-2026-dp2"),
        ("sglang", "sglang-2026-dp2-tp2"),
        ("tgi", "tgi-3.3"),
        ("triton", "triton-trtllm-2026"),
        ("llamacpp", "llamacpp-2024"),
    ],
)
def test_real_pages_tell_what_the_choice_needs(engine: str, page: str) -> None:
    table = find_table(engine)
    assert table is not None
    sample = read_sample(table, [(FIXTURES / f"{page}.prom").read_bytes()], {}, 7.0)
    assert sample is not None
    assert sample.at == 7.0
    assert None not in (sample.kv, sample.running, sample.waiting, sample.prompt_tokens, sample.generated_tokens)


def test_a_custom_engine_is_read_as_its_user_says() -> None:
    mapping = (("generatedTokens", '{"metric": "out"}'), ("kv", '{"metric": "kv", "divisor": 100}'), ("x", "7"))
    table = find_table("custom", (*mapping, ("queue", "no JSON")))
    assert table is not None
    sample = read_sample(table, [b"kv 50\n", b"out 12\n"], {}, 1.0)
    assert sample == Sample(1.0, kv=0.5, generated_tokens=12.0)
    assert read_sample(table, [b"nothing 1\n"], {}, 1.0) is None


def test_a_node_that_floods_its_page_says_nothing() -> None:
    table = find_table("vllm")
    assert table is not None
    flood = b'vllm:num_requests_running{model_name="m"} 1\n' * 20_000
    assert read_sample(table, [flood], {}, 1.0) is None


def test_an_engine_that_prints_nothing_of_load_has_no_table() -> None:
    assert find_table("openai") is None
    assert find_table("custom", (("cpu", '{"metric": "x"}'),)) is None
