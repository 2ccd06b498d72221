"""`weighbridge check` tells each of two mistakes and nothing else, wherever they are: one never hides another.

Every mistake is made alone first, which says what is told of it; then every two of them, in one object and in two.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from weighbridge_operator.check import main

Doc = dict[str, Any]

NODE: Doc = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "ModelNode",
    "metadata": {"name": "a", "labels": {"pool": "chat"}},
    "spec": {
        "engine": "vllm",
        "address": {"host": "10.0.0.1", "port": 8000},
        "models": [{"name": "m", "version": "1"}, {"name": "n"}],
    },
}
POLICY: Doc = {
    "apiVersion": "weighbridge.dev/v1alpha1",
    "kind": "RoutePolicy",
    "metadata": {"name": "p"},
    "spec": {"nodes": {"matchLabels": {"pool": "chat"}}},
}


def put(path: str, value: object) -> Callable[[Doc], None]:
    """Writes a value at a place; every step but the last may be new."""

    def change(doc: Doc) -> None:
        *steps, last = path.split(".")
        at = doc
        for step in steps:
            at = at.setdefault(step, {})
        at[last] = value

    return change


def drop(path: str) -> Callable[[Doc], None]:
    def change(doc: Doc) -> None:
        *steps, last = path.split(".")
        at = doc
        for step in steps:
            at = at[step]
        del at[last]

    return change


def add_model(model: Doc) -> Callable[[Doc], None]:
    return lambda doc: doc["spec"]["models"].append(model)


NODES: dict[str, Callable[[Doc], None]] = {
    "both places": put("spec.service", {"name": "s", "port": 1}),
    "a doubled model": add_model({"name": "n"}),
    "a bad model": add_model({"name": "a b"}),
    "a model without name": add_model({"servedAs": "x"}),
    "an engine misspelt": put("spec.engine", "vlm"),
    "a port too high": put("spec.address.port", 80000),
    "an unknown field": put("spec.capcity", 2),
    "a duration without unit": put("spec.health", {"interval": 5}),
    "no secret": put("spec.credentials", {"secretRef": {"name": "s", "key": "k"}}),
    "no authorities": put("spec.tls", {"caSecretRef": {"name": "ca"}}),
    "a link-local address": put("spec.address.host", "169.254.1.1"),
    "a number as label": put("metadata.labels.rack", 7),
    "a mapping for vllm": put("spec.metrics", {"mapping": {"queue": {"metric": "q"}}}),
    "another api's version": put("apiVersion", "v1"),
    "a kind misspelt": put("kind", "ModelNod"),
}
POLICIES: dict[str, Callable[[Doc], None]] = {
    "no such nodes": put("spec.nodes.matchLabels.pool", "none"),
    "no such fallback": put("spec.fallback", [{"model": "z"}]),
    "no such default": put("spec.defaultModel", "z"),
    "no such version": put("spec.versions", [{"version": "9", "share": 100}]),
    "no such model": put("spec.match.models", ["z"]),
    "too many tries": put("spec.retry.attempts", 9),
    "idle over total": put("spec.timeouts", {"total": "10s", "idle": "20s"}),
    "weights of zero": put("spec.balance.weights", {"cpu": 0}),
    "an own header": put("spec.match.headers", {"x-weighbridge-a": "1"}),
    "an unknown field": put("spec.priority", 1),
    "a percentage without sign": put("spec.retry.budget", 20),
    "another namespace": put("metadata.namespace", "other"),
    "no api version": drop("apiVersion"),
}


def tell(*documents: Doc, directory: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What `check` says of them, without places and positions."""
    path = directory / "all.yaml"
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    main(["-f", str(path)])
    *lines, _ = capsys.readouterr().out.splitlines()
    return {re.sub(r"\[\d+]", "[]", line.split(": ", 1)[1]) for line in lines}


def made(base: Doc, *changes: Callable[[Doc], None]) -> Doc:
    document = copy.deepcopy(base)
    for change in changes:
        change(document)
    return document


def name_kind(lines: set[str]) -> set[str]:
    """Without the object: a kind misspelt changes how it is called."""
    return {line.split(": ", 1)[1] for line in lines}


@pytest.mark.parametrize(("one", "two"), [*itertools.combinations(NODES, 2)])
def test_of_two_mistakes_in_a_node_both_are_told(
    one: str, two: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = [tell(made(NODE, NODES[name]), POLICY, directory=tmp_path, capsys=capsys) for name in (one, two)]
    assert all(alone)
    both = tell(made(NODE, NODES[one], NODES[two]), POLICY, directory=tmp_path, capsys=capsys)
    assert name_kind(both) == name_kind(alone[0]) | name_kind(alone[1])


# The first says in which namespace it looked.
APART = [pair for pair in itertools.combinations(POLICIES, 2) if pair != ("no such nodes", "another namespace")]


@pytest.mark.parametrize(("one", "two"), APART)
def test_of_two_mistakes_in_a_policy_both_are_told(
    one: str, two: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = [tell(NODE, made(POLICY, POLICIES[name]), directory=tmp_path, capsys=capsys) for name in (one, two)]
    assert all(alone)
    both = tell(NODE, made(POLICY, POLICIES[one], POLICIES[two]), directory=tmp_path, capsys=capsys)
    assert name_kind(both) == name_kind(alone[0]) | name_kind(alone[1])


@pytest.mark.parametrize(("one", "two"), [*itertools.product(NODES, POLICIES)])
def test_of_two_mistakes_in_two_objects_both_are_told(
    one: str, two: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, policy = made(NODE, NODES[one]), made(POLICY, POLICIES[two])
    first = tell(node, POLICY, directory=tmp_path, capsys=capsys)
    second = tell(NODE, policy, directory=tmp_path, capsys=capsys)
    assert tell(node, policy, directory=tmp_path, capsys=capsys) == first | second
