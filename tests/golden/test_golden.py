"""From objects to the gateway model to what Envoy is told, as readable files: a change of either shows in review.

`pytest tests/golden --update-golden` writes them anew; never under CI. What stands there is also given to a real Envoy.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from support.stack import Stack
from weighbridge_operator.core.resolve import Resolved, resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.files import settle
from weighbridge_operator.sources.listing import FileText
from weighbridge_operator.state import DesiredState
from weighbridge_operator.xds import kinds
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.translate import translate

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/in.yaml"))
KINDS = {
    kinds.CLUSTER: "envoy.config.cluster.v3.Cluster",
    kinds.ENDPOINT: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    kinds.SECRET: "envoy.extensions.transport_sockets.tls.v3.Secret",
    kinds.LISTENER: "envoy.config.listener.v3.Listener",
    kinds.ROUTE: "envoy.config.route.v3.RouteConfiguration",
    kinds.RUNTIME: "envoy.service.runtime.v3.Runtime",
}


class Readable(yaml.SafeDumper):
    """Long texts as blocks."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Readable.add_representer(str, _write_text)
Readable.ignore_aliases = lambda *_: True


def print_yaml(value: Any) -> str:
    return yaml.dump(_plain(value), Dumper=Readable, sort_keys=True, width=120, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _name_script(key, _plain(item)) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _name_script(key: str, value: Any) -> Any:
    # The scripts have files of their own; here their first line is enough.
    return value.partition("\n")[0] if key == "inline_string" and isinstance(value, str) and "\n" in value else value


def load(case: str) -> tuple[DesiredState, Resolved]:
    loaded = settle([FileText("in.yaml", (HERE / case / "in.yaml").read_bytes(), private=True)], {})
    assert loaded.problems == ()
    return loaded.desired, resolve(loaded.desired, Scope())


def print_xds(desired: DesiredState, resolved: Resolved) -> str:
    snapshot = translate(resolved.gateway, {}, desired.secrets, Entrance(), b"")
    told: dict[str, Any] = {}
    for kind, label in kinds.LABELS.items():
        messages = {}
        for name, resource in snapshot.of(kind).items():
            message = json_format.MessageToDict(_parse(kind, resource.body), preserving_proto_field_name=True)
            messages[name] = {"version": "secret"} if kind == kinds.SECRET else message
        told[label] = messages
    return print_yaml(told)


def _parse(kind: str, body: bytes) -> Any:
    from google.protobuf import symbol_database

    message = symbol_database.Default().GetSymbol(KINDS[kind])()
    message.ParseFromString(body)
    return message


@pytest.mark.parametrize("case", CASES)
def test_the_model_and_what_envoy_is_told_are_as_written_down(case: str, request: pytest.FixtureRequest) -> None:
    desired, resolved = load(case)
    assert resolved.findings == ()
    now = {"ir.yaml": print_yaml(asdict(resolved.gateway)), "xds.yaml": print_xds(desired, resolved)}
    if request.config.getoption("--update-golden"):
        assert os.environ.get("CI") != "true", "golden files are never written under CI"
        for name, text in now.items():
            (HERE / case / name).write_text(text)
    for name, text in now.items():
        assert text == (HERE / case / name).read_text(), f"{case}/{name}: if it is meant, pytest --update-golden"


@pytest.mark.envoy
async def test_envoy_takes_every_case() -> None:
    documents = {case: list(yaml.safe_load_all((HERE / case / "in.yaml").read_text())) for case in CASES}
    first, *rest = CASES
    async with Stack(*documents[first]) as stack:
        for case in rest:
            await stack.apply(*documents[case])
        states = stack.server.states.get()
        assert states is not None
        assert not [refusal for envoy in states.envoys for kind in envoy.kinds for refusal in kind.refusals]
        assert "rejected" not in stack.envoys[0].log
