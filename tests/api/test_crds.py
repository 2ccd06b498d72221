"""The CRDs are structural, bounded, described, and the ones that are checked in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from weighbridge_api.base import Shape
from weighbridge_api.crd import KINDS, Kind, build_crd, print_yaml
from weighbridge_api.crds_command import main
from weighbridge_api.schema import UnstructuralError, build_schema
from weighbridge_api.values import Duration

CRDS = Path(__file__).parents[2] / "crds"


def test_the_crds_in_the_repository_are_fresh(tmp_path: Path) -> None:
    assert main(["--output", str(tmp_path)]) == 0
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in CRDS.iterdir()}
    assert kept == written, "run: weighbridge crds --output crds"


def test_all_are_printed_as_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == [build_crd(kind) for kind in KINDS]


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--output", str(tmp_path / "file")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_the_reference_of_the_docs_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reference"]) == 0
    kept = (CRDS.parent / "docs" / "reference.md").read_text()
    assert kept == capsys.readouterr().out, "run: weighbridge crds --reference > docs/reference.md"


def test_the_reference_says_bounds_defaults_and_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--reference"])
    rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in capsys.readouterr().out.splitlines() if "`" in line]
    told = {cells[0].strip("`"): cells[1:] for cells in rows}
    assert told["spec.address.port"] == ["whole number, 1 to 65,535", "required", "TCP port."]
    assert told["spec.health.interval"][:2] == ["duration, from 1s to 5m", "`5s`"]
    assert told["spec.address.host"][0].endswith("the IP address or the DNS name of one server")
    assert told["spec.models[]"][0].endswith('refused: "a model is listed twice with the same version"')
    assert told["spec.match.headers"][0].endswith("names: use lower case letters, digits, - and _")
    assert told["status.endpoints[].score"] == ["whole number, 0 to 100", "Load from 0 to 100, low is good."]
    assert {"status.conditions[].reason", "spec.timeouts.firstToken", "spec.metrics.prometheus.queries"} <= told.keys()


def test_every_field_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--reference"])
    page = capsys.readouterr().out
    assert [path for kind in KINDS for path in list_paths(kind) if f"`{path}" not in page] == []


def list_paths(kind: Kind) -> Iterator[str]:
    """Every field of the schema; those that are all alike stand in the row above them, or are told of one of them."""
    schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    waiting = [("spec", schema["spec"]), ("status", schema["status"])]
    while waiting:
        path, shape = waiting.pop()
        if path.endswith(".mapping"):
            waiting.append((f"{path}.*", shape["properties"]["queue"]))
            continue
        for name, field in shape.get("items", shape).get("properties", {}).items():
            if path.rpartition(".")[2] not in ("weights", "queries", "times"):
                full = f"{path}{'[]' if 'items' in shape else ''}.{name}"
                yield full
                waiting.append((full, field))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.plural)
def test_the_printed_text_says_what_was_built(kind: Kind) -> None:
    assert yaml.safe_load(print_yaml(build_crd(kind))) == build_crd(kind)


@pytest.mark.parametrize("text", ["on", "1", "a: b", "- a", "", "~", "#a", "'", 'say "hi"', "a\nb", "größe", "*"])
def test_any_string_survives_printing(text: str) -> None:
    data = {"k": text, text or "empty": [text, {"x": text}]}
    assert yaml.safe_load(print_yaml(data)) == data


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.plural)
def test_everything_is_bounded_and_described(kind: Kind) -> None:
    schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for path, shape in walk(schema["properties"][part], part):
            assert {"anyOf", "oneOf", "$ref", "const", "title"}.isdisjoint(shape), path
            match shape.get("type"):
                case None:
                    assert shape["x-kubernetes-int-or-string"], path
                    assert "x-kubernetes-validations" in shape, path
                case "string":
                    assert {"maxLength", "enum"} & shape.keys(), path
                case "array":
                    assert "maxItems" in shape, path
                case "object":
                    assert "properties" in shape or "maxProperties" in shape, path
                    assert all("description" in each for each in shape.get("properties", {}).values()), path


def test_defaults_are_written_as_people_write_them() -> None:
    (policies,) = (kind for kind in KINDS if kind.plural == "routepolicies")
    spec = build_crd(policies)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["retry"]["properties"]["budget"]["default"] == "100%"
    assert spec["properties"]["timeouts"]["properties"]["total"]["default"] == "15m"
    assert "default" not in spec["properties"]["timeouts"]["properties"]["idle"]


class Inner(Shape):
    text: Annotated[str, Field(max_length=5)]
    """Text."""


class Union(Shape):
    value: int | Annotated[str, Field(max_length=5)]
    """Value."""


class Unbounded(Shape):
    inner: Annotated[tuple[Inner, ...], Field(max_length=3)]
    """Inner."""
    text: str
    """Text."""


class Endless(Shape):
    items: tuple[Inner, ...]
    """Items."""


class Silent(Shape):
    text: Literal["a"]


class Pair(Shape):
    pair: tuple[int, Inner]
    """Pair."""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Union, "Kind.spec.value: is a union"),
        (Unbounded, "Kind.spec.text: has no maxLength"),
        (Endless, "Kind.spec.items: has no maxItems"),
        (Silent, "Kind.spec.text: has no description"),
        (Pair, "Kind.spec.pair: prefixItems cannot be said in a structural schema"),
    ],
)
def test_what_a_structural_schema_cannot_say_is_refused_with_its_path(model: type[Shape], words: str) -> None:
    with pytest.raises(UnstructuralError) as raised:
        build_schema(model, "Kind.spec")
    assert str(raised.value) == words


class Small(Shape):
    """Small."""

    one: Literal["a"] = "a"
    """One."""
    wait: Duration = 90.0
    """Wait."""
    maybe: Inner | None = None
    """Maybe."""
    above: Annotated[float, Field(gt=0)] | None = None
    """Above."""


def test_constants_optional_fields_and_open_bounds_take_their_structural_form() -> None:
    properties = build_schema(Small, "Small")["properties"]
    assert properties["one"] == {"description": "One.", "type": "string", "enum": ["a"], "default": "a"}
    assert properties["wait"]["default"] == "1m30s"
    assert properties["maybe"]["description"] == "Maybe."
    assert properties["maybe"]["required"] == ["text"]
    assert properties["above"] == {"description": "Above.", "type": "number", "minimum": 0, "exclusiveMinimum": True}


def walk(shape: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, shape
    for name, each in shape.get("properties", {}).items():
        yield from walk(each, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in shape:
            yield from walk(shape[inner], f"{path}[]")
