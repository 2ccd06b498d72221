"""What is asked back from an Envoy is its content, exactly, or nothing."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import MessageToDict

from support.gateway import make_cluster, make_routes
from weighbridge_operator.xds.kinds import CLUSTER, ROUTE
from weighbridge_operator.xds.recall import read_dump
from weighbridge_operator.xds.snapshot import pack


def test_a_dump_gives_back_the_very_resources() -> None:
    routes = make_routes("routes", "one", "two", version="7")
    fields = MessageToDict(routes, preserving_proto_field_name=True)
    dump = {"configs": [{"version_info": "1", "route_config": {"@type": ROUTE, **fields}}]}
    assert read_dump(ROUTE, json.dumps(dump).encode()) == {"routes": pack(ROUTE, routes)}
    assert read_dump(CLUSTER, b"{}") == {}


def test_routes_that_lack_their_keys_tell_what_they_lead_to() -> None:
    routes = MessageToDict(make_routes("routes", "one"), preserving_proto_field_name=True)
    dump = {"configs": [{"route_config": {**routes, "internal_only_headers": ["[redacted]"]}}]}
    text = json.dumps(dump).encode()
    (found,) = read_dump(ROUTE, text, lacks_keys=True).values()
    assert (CLUSTER, "one") in found.needs
    with pytest.raises(ValueError, match="redacted"):
        read_dump(ROUTE, text)


def test_redacted_content_is_not_taken_for_content() -> None:
    cluster = MessageToDict(make_cluster("one"), preserving_proto_field_name=True)
    dump = {"configs": [{"cluster": {**cluster, "alt_stat_name": "[redacted]"}}]}
    with pytest.raises(ValueError, match="redacted"):
        read_dump(CLUSTER, json.dumps(dump).encode())
