"""One exchange of ext_proc: every order and end that Envoy may produce, and answers byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_dataplane.exchange import (
    FILTER,
    POLICY_MAXIMUM,
    Exchange,
    Head,
    Kind,
    Part,
    Policies,
    Policy,
    let_pass,
    name_node,
)
from weighbridge_dataplane.facts import BLOCKS_MAXIMUM, Asked

TRANSCRIPTS = Path(__file__).parent / "transcripts"
KINDS = get_args(Kind)
TEXT = '{"clusters": ["a", "b"], "via": ["x", "y"]}'
kinds = st.sampled_from(KINDS)


def make(kind: str = "request_headers", policy: str | None = TEXT, bodies: bool = False, **headers: str) -> bytes:
    """A message as Envoy sends it."""
    request = ProcessingRequest()
    part = getattr(request, kind)
    part.SetInParent()
    if kind == "request_headers":
        for name, value in headers.items():
            header = part.headers.headers.add()
            header.key, header.raw_value = name.replace("_", "-"), value.encode()
        if policy is not None:
            request.attributes[FILTER].update({"xds.route_metadata": policy})
        request.protocol_config.request_body_mode = 2 if bodies else 0
    elif kind.endswith("body"):
        part.body, part.end_of_stream = b"part", True
    return bytes(request.SerializeToString())


def parse(answer: bytes) -> dict[str, Any]:
    return MessageToDict(ProcessingResponse.FromString(answer), preserving_proto_field_name=True)


def test_a_head_says_what_was_asked() -> None:
    exchange = Exchange(Policies())
    headers = {"content_length": "2048", "x_request_id": "id", "x_weighbridge_session": "s", "authorization": "secret"}
    head = exchange.receive(make(**headers, x_weighbridge_blocks="0123abcd.deadbeef"))
    assert head == Head(Policy(("a", "b"), ("x", "y")), Asked(2048, "s", ("0123abcd", "deadbeef")), "id")


@pytest.mark.parametrize(("told", "shared"), [("true", True), ("false", False), ('"true"', False)])
def test_a_route_says_whether_all_envoys_name_beginnings_alike(told: str, shared: bool) -> None:
    head = Exchange(Policies()).receive(make(policy=f'{{"clusters": ["a"], "shared": {told}}}'))
    assert isinstance(head, Head)
    assert head.policy == Policy(("a",), (), shared)
    assert head.asked == Asked(shared=shared)


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({"content_length": "-1"}, Asked()),
        ({"content_length": "1" * 30}, Asked()),
        ({"content_length": "٣"}, Asked()),
        ({"x_weighbridge_session": ""}, Asked()),
        ({"x_weighbridge_session": "s" * 1000}, Asked(session="s" * 256)),
        ({"x_weighbridge_blocks": "0123abcd.x.0123abcd"}, Asked(blocks=("0123abcd",))),
        ({"x_weighbridge_blocks": ".".join(["0123abcd"] * 100)}, Asked(blocks=("0123abcd",) * BLOCKS_MAXIMUM)),
        ({"x_weighbridge_blocks": "0123ABCD"}, Asked()),
    ],
)
def test_headers_that_are_none_are_not_believed(told: dict[str, str], asked: Asked) -> None:
    head = Exchange(Policies()).receive(make(**told))
    assert isinstance(head, Head)
    assert head.asked == asked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"clusters": []}',
        '{"clusters": [1]}',
        '{"clusters": [""]}',
        '{"clusters": "a"}',
        '{"clusters": ["a"], "via": 1}',
        '{"clusters": ["a"], "via": true}',
        '{"clusters": ["a"], "via": ["x", "y"]}',
        "[" * 10_000,
        json.dumps({"clusters": ["a" * POLICY_MAXIMUM]}),
    ],
)
def test_a_policy_that_is_none_is_silent(text: str) -> None:
    exchange = Exchange(Policies())
    head = exchange.receive(make(policy=text))
    assert isinstance(head, Head)
    assert head.policy is None


def test_a_policy_is_parsed_once_and_not_all_are_remembered() -> None:
    policies = Policies(most=2)
    first = policies.read(TEXT)
    assert policies.read(str(TEXT)) is first
    for number in range(3):
        policies.read(f'{{"clusters": ["{number}"]}}')
    assert policies.read(TEXT) is not first
    assert policies.read(TEXT) == first


@given(st.lists(kinds, max_size=12), st.booleans(), st.sampled_from([TEXT, None, "x"]))
def test_whatever_comes_in_whatever_order_is_answered_under_its_own_name(
    order: list[Kind], bodies: bool, policy: str | None
) -> None:
    exchange, heads = Exchange(Policies()), 0
    for place, kind in enumerate(order):
        event = exchange.receive(make(kind, policy=policy, bodies=bodies))
        if isinstance(event, Head):
            heads += 1
            assert (kind, place) == ("request_headers", 0)
        else:
            assert isinstance(event, Part)
            assert event.kind == kind
            assert event.data == (b"part" if kind.endswith("body") else b"")
            assert ProcessingResponse.FromString(let_pass(event.kind)).WhichOneof("response") == kind
    assert heads == (order[:1] == ["request_headers"])


@given(st.binary(max_size=60))
def test_no_bytes_raise(message: bytes) -> None:
    exchange = Exchange(Policies())
    for part in (message, make(), message):
        exchange.receive(part)


def test_a_message_without_a_part_has_no_answer() -> None:
    assert Exchange(Policies()).receive(b"") is None
    assert Exchange(Policies()).receive(b"\xff\xff") is None


@pytest.mark.parametrize(
    ("name", "told", "named"),
    [
        ("named", {"content_length": "12", "x_request_id": "id"}, ("10.0.0.1:8000", None)),
        ("named-via", {"content_length": "12"}, ("[2001:db8::1]:80", "pool")),
        ("silent", {}, None),
    ],
)
def test_transcripts(
    name: str, told: dict[str, str], named: tuple[str, str | None] | None, pytestconfig: pytest.Config
) -> None:
    answer = name_node(*named) if named else let_pass("request_headers")
    asked = MessageToDict(ProcessingRequest.FromString(make(**told)), preserving_proto_field_name=True)
    text = json.dumps([{"envoy": asked}, {"dataplane": parse(answer)}], indent=2, sort_keys=True) + "\n"
    path = TRANSCRIPTS / f"{name}.json"
    if pytestconfig.getoption("--update-golden", default=False):
        path.write_text(text)
    assert path.read_text() == text


def test_an_answer_is_made_once() -> None:
    assert name_node("10.0.0.1:8000", None) is name_node("10.0.0.1:8000", None)


@pytest.mark.parametrize("more", ["", ', "via": false', ', "via": []'])
def test_a_policy_of_one_plain_cluster_is_read_whatever_it_says_of_ways(more: str) -> None:
    head = Exchange(Policies()).receive(make(policy=f'{{"clusters": ["a"]{more}}}'))
    assert isinstance(head, Head)
    assert head.policy == Policy(("a",))


@pytest.mark.parametrize("name", ["plain", "chain"])
def test_what_the_real_envoy_sent_is_understood(name: str) -> None:
    """Recorded by tests/envoy/test_precise_recorded.py."""
    told = json.loads((TRANSCRIPTS / f"envoy-{name}.json").read_text())
    message = ParseDict(told, ProcessingRequest()).SerializeToString()
    head = Exchange(Policies()).receive(message)
    assert isinstance(head, Head)
    assert head.policy is not None
    assert head.policy.clusters == ("the cluster of a",)
    assert head.policy.lead_to("the cluster of a") == ("the way to a" if name == "chain" else None)
    assert (head.request_id, head.asked.session, len(head.asked.blocks)) == ("a request", "0123456789abcdef", 4)
    assert head.asked.size is not None
