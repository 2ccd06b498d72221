"""The CRDs: what Kubernetes is told about the kinds, generated from the models, never written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from weighbridge_api.base import GROUP, VERSION, Resource
from weighbridge_api.conditions import ModelNodeStatus, RoutePolicyStatus
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_api.schema import build_schema

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_NOT_PLAIN = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


@dataclass(frozen=True, slots=True)
class Column:
    """What `kubectl get` prints."""

    name: str
    type: str
    path: str
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    model: type[Resource]
    status: type[BaseModel]
    plural: str
    short: str
    columns: tuple[Column, ...]

    @property
    def file_name(self) -> str:
        return f"{GROUP}_{self.plural}.yaml"


_READY = Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status')
_REASON = Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason')
_MESSAGE = Column("Message", "string", '.status.conditions[?(@.type=="Ready")].message', wide=True)
_CREATED = Column("Age", "date", ".metadata.creationTimestamp")

KINDS = (
    Kind(
        ModelNode,
        ModelNodeStatus,
        "modelnodes",
        "mn",
        (
            _READY,
            Column("Servers", "string", ".status.summary.servers"),
            Column("Score", "integer", ".status.summary.score"),
            Column("Weight", "integer", ".status.summary.weight"),
            Column("Share", "number", ".status.summary.share"),
            Column("Metrics-Age", "integer", ".status.summary.age"),
            _REASON,
            Column("Engine", "string", ".spec.engine", wide=True),
            Column("Tier", "string", ".spec.tier", wide=True),
            Column("Why", "string", ".status.endpoints[0].reason", wide=True),
            _MESSAGE,
            _CREATED,
        ),
    ),
    Kind(
        RoutePolicy,
        RoutePolicyStatus,
        "routepolicies",
        "rp",
        (
            Column("Models", "string", ".spec.match.models"),
            _READY,
            Column("Profile", "string", ".status.pools[0].profile"),
            Column("Load", "integer", ".status.pools[0].load"),
            Column("Servers", "integer", ".status.pools[0].servers"),
            _REASON,
            _MESSAGE,
            _CREATED,
        ),
    ),
)


def build_crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition as plain data. Raises schema.UnstructuralError."""
    name = kind.model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "singular": name.lower(),
                "plural": kind.plural,
                "shortNames": [kind.short],
                "categories": ["weighbridge"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_print_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _build_object(kind)},
                }
            ],
        },
    }


def print_yaml(value: dict[str, Any]) -> str:
    """Block YAML of plain data, the same text for the same data. Strings that YAML could misread are quoted."""
    return "\n".join(_print_mapping(value, "")) + "\n"


def _build_object(kind: Kind) -> dict[str, Any]:
    name = kind.model.__name__
    spec = kind.model.model_fields["spec"]
    if not isinstance(spec.annotation, type):
        raise TypeError(f"{name}.spec is not a model")
    shape = {
        "description": kind.model.__doc__,
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": build_schema(spec.annotation, f"{name}.spec"),
            "status": build_schema(kind.status, f"{name}.status"),
        },
    }
    return shape | {"required": ["spec"]} if spec.is_required() else shape


def _print_column(column: Column) -> dict[str, Any]:
    printed: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return printed | {"priority": 1} if column.wide else printed


def _print_mapping(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        start = f"{indent}{_print_scalar(key)}:"
        match item:
            case dict() if item:
                yield start
                yield from _print_mapping(item, indent + "  ")
            case list() if item:
                yield start
                yield from _print_list(item, indent)
            case _:
                yield f"{start} {_print_scalar(item)}"


def _print_list(value: list[Any], indent: str) -> Iterator[str]:
    for item in value:
        if isinstance(item, dict) and item:
            first, *rest = _print_mapping(item, indent + "  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}- {_print_scalar(item)}"


def _print_scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN:
        return value
    # JSON is YAML.
    return json.dumps(value, ensure_ascii=False)
