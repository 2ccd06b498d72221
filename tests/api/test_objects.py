"""What the API takes and what it refuses, field by field, in files and from the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from support.corpus import (
    INVALID_NODES,
    INVALID_POLICIES,
    UNKNOWN,
    VALID_NODES,
    VALID_POLICIES,
    build,
    build_node,
)
from weighbridge_api.base import Resource
from weighbridge_api.faults import read_faults
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_api.secret import Secret


def faults(kind: type[Resource], data: object) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        kind.from_file(data)
    return [str(fault) for fault in read_faults(raised.value, kind, quote=kind.quotable)]


@pytest.mark.parametrize("spec", VALID_NODES, ids=str)
def test_a_valid_node_is_taken_and_written_back_as_it_was_meant(spec: Mapping[str, Any]) -> None:
    node = ModelNode.from_file(build_node(spec))
    assert ModelNode.from_file(node.model_dump(mode="json", exclude_none=True)) == node
    assert ModelNode.from_cluster(build_node(spec)) == node


@pytest.mark.parametrize(("spec", "field"), INVALID_NODES, ids=str)
def test_an_invalid_node_is_refused_with_one_line_that_names_the_field(spec: Mapping[str, Any], field: str) -> None:
    (line,) = faults(ModelNode, build_node(spec))
    assert line.startswith(f"{field}: ")
    assert "; " in line


@pytest.mark.parametrize("spec", VALID_POLICIES, ids=str)
def test_a_valid_policy_is_taken_and_written_back_as_it_was_meant(spec: Mapping[str, Any]) -> None:
    policy = RoutePolicy.from_file(build(RoutePolicy, spec))
    assert RoutePolicy.from_file(policy.model_dump(mode="json", exclude_none=True)) == policy
    assert RoutePolicy.from_cluster(build(RoutePolicy, spec)) == policy


@pytest.mark.parametrize(("spec", "field"), INVALID_POLICIES, ids=str)
def test_an_invalid_policy_is_refused_with_one_line_that_names_the_field(spec: Mapping[str, Any], field: str) -> None:
    (line,) = faults(RoutePolicy, build(RoutePolicy, spec))
    assert line.startswith(f"{field}: ")
    assert "; " in line


@pytest.mark.parametrize(("kind", "spec", "field"), UNKNOWN, ids=str)
def test_an_unknown_key_is_an_error_in_a_file_and_dropped_from_the_cluster(
    kind: type[Resource], spec: Mapping[str, Any], field: str
) -> None:
    data = build_node(spec) if kind is ModelNode else build(kind, spec)
    (line,) = faults(kind, data)
    assert line.startswith(f"{field}: is not a known field")
    assert kind.from_cluster(data).metadata.name == "a"


def test_the_defaults_are_those_of_the_design() -> None:
    node = ModelNode.from_file(build_node({"health": {}})).spec
    assert (node.address and node.address.path, node.tier, node.models[0].types) == (None, "standard", ("text",))
    assert node.format == "openai"
    assert node.health is not None
    assert (node.health.interval, node.health.path) == (5.0, None)
    policy = RoutePolicy.from_file(build(RoutePolicy, {})).spec
    assert (policy.retry.attempts, policy.retry.budget) == (2, 100.0)
    assert (policy.timeouts.first_token, policy.timeouts.idle, policy.timeouts.total) == (60.0, 30.0, 900.0)
    assert (policy.balance.profile, policy.balance.queue_maximum, dict(policy.balance.weights)) == (None, None, {})


def test_a_short_total_lowers_the_timeouts_that_were_not_given() -> None:
    spec = RoutePolicy.from_file(build(RoutePolicy, {"timeouts": {"total": "40s"}})).spec
    assert (spec.timeouts.first_token, spec.timeouts.idle, spec.timeouts.total) == (40.0, 30.0, 40.0)


def test_what_the_api_server_adds_is_tolerated_and_makes_no_difference() -> None:
    data = build_node({})
    metadata = {"resourceVersion": "7", "managedFields": [{}], "annotations": {"a": "b"}, "labels": None}
    read = ModelNode.from_file(data | {"metadata": data["metadata"] | metadata, "status": {"conditions": [3]}})
    assert read == ModelNode.from_file(data)
    later = data["metadata"] | {"generation": 3, "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    assert ModelNode.from_file(data | {"metadata": later}).metadata.generation == 3


def test_order_without_meaning_makes_no_difference() -> None:
    one = {"match": {"models": ["a", "b"], "types": ["text", "image"], "headers": {"x-a": "1", "x-b": "2"}}}
    two = {"match": {"models": ["b", "a"], "types": ["image", "text"], "headers": {"x-b": "2", "x-a": "1"}}}
    first, second = (RoutePolicy.from_file(build(RoutePolicy, spec)) for spec in (one, two))
    assert repr(first) == repr(second)


def test_objects_cannot_be_changed() -> None:
    node = ModelNode.from_file(build_node({}))
    with pytest.raises(ValidationError):
        node.spec.capacity = 2.0  # type: ignore[misc]


def test_a_secret_gives_its_entries_and_never_shows_them() -> None:
    data = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque"}
    secret = Secret.from_file(data | {"data": {"a": "aGVs\nbG8=", "b": "eA=="}, "stringData": {"b": "plain-text"}})
    assert secret.entries() == {"a": b"hello", "b": b"plain-text"}
    assert "plain" not in repr(secret)
    assert "aGVs" not in repr(secret)
    lines = faults(Secret, data | {"data": {"a": "top-secret!"}, "stringData": {"b": 12345678, "c": ["top-secret"]}})
    assert len(lines) == 3
    assert not any("top" in line or "1234" in line for line in lines)
