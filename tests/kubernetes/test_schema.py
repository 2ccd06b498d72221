"""Files and the cluster agree: what pydantic takes, the CRDs take, and what one refuses so does the other.

Dry runs with server-side apply, so that defaults, pruning and validation are the API server's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.apiserver import ApiServer
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
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy


def place(document: dict[str, Any]) -> dict[str, Any]:
    document["metadata"]["namespace"] = "default"
    return document


VALID = [(ModelNode, build_node(spec)) for spec in VALID_NODES]
VALID += [(RoutePolicy, build(RoutePolicy, spec)) for spec in VALID_POLICIES]
INVALID = [(build_node(spec), field) for spec, field in INVALID_NODES]
INVALID += [(build(RoutePolicy, spec), field) for spec, field in INVALID_POLICIES]


@pytest.mark.parametrize(("kind", "document"), VALID, ids=str)
def test_the_api_server_takes_what_files_take(
    kind: type[Resource], document: dict[str, Any], api_server: ApiServer
) -> None:
    taken = api_server.apply(place(document), dry_run=True)
    # With the defaults that the API server wrote into it, it means the same.
    assert kind.from_cluster(taken).model_dump(exclude={"metadata"}) == kind.from_file(document).model_dump(
        exclude={"metadata"}
    )


@pytest.mark.parametrize(("document", "field"), INVALID, ids=str)
def test_the_api_server_refuses_what_files_refuse(document: dict[str, Any], field: str, api_server: ApiServer) -> None:
    with pytest.raises(ApiException) as raised:
        api_server.apply(place(document), dry_run=True)
    assert raised.value.status in (400, 422, 500), raised.value.body
    message = json.loads(raised.value.body)["message"]
    # A wrong key is told as a fault of the mapping that holds it.
    *_, parent, name = f".{field}".split("[", maxsplit=1)[0].split(".")
    assert name in message or f".{parent}:" in message, message


@pytest.mark.parametrize(("kind", "spec", "field"), UNKNOWN, ids=str)
def test_the_api_server_refuses_unknown_keys_where_it_is_asked_to_be_strict(
    kind: type[Resource], spec: Mapping[str, Any], field: str, api_server: ApiServer
) -> None:
    document = build_node(spec) if kind is ModelNode else build(kind, spec)
    with pytest.raises(ApiException) as raised:
        api_server.apply(place(document), dry_run=True)
    assert field.rpartition(".")[2] in raised.value.body
