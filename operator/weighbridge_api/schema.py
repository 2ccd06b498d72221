"""From a pydantic model to the structural schema that a CRD needs.

The API server takes a narrow form of JSON schema: no references, no unions but that of number and text, no `const`,
and bounds on every string, list and map if CEL rules are to be affordable. What cannot be said in that form is refused
here with the path of the field, so that a mistake in a model is found when the CRDs are generated, never by a cluster.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaSerializer, core_schema

Schema = dict[str, Any]

_RULES = "x-kubernetes-validations"
_EITHER = "x-kubernetes-int-or-string"  # the only union that a structural schema knows
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "maximum",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    _EITHER,
    _RULES,
)
_LEAST = {"array": "minItems", "object": "minProperties"}
_DROPPED = frozenset({"title", "additionalProperties", "propertyNames", "minItems", "maxItems", "minProperties"})
_HANDLED = frozenset(
    {"$ref", "$defs", "anyOf", "const", "default", "properties", "items", "minimum", "exclusiveMinimum"}
    | {"maxProperties", "patternProperties"}
)


class UnstructuralError(ValueError):
    """A model says something that a structural schema cannot."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class _WrittenDefaults(GenerateJsonSchema):
    """Defaults as a person would write them: `30s`, not 30.0."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        shape = super().default_schema(schema)
        if isinstance(shape.get("default"), float):
            shape["default"] = SchemaSerializer(schema["schema"]).to_python(schema["default"], mode="json")
        return shape


def build_schema(model: type[BaseModel], path: str) -> Schema:
    """The structural schema of `model`; raises UnstructuralError with the field's path below `path`."""
    shape = model.model_json_schema(by_alias=True, schema_generator=_WrittenDefaults)
    return _convert(shape, shape.get("$defs", {}), path)


def _convert(shape: Schema, definitions: Schema, path: str) -> Schema:
    shape = _unwrap(_inline(shape, definitions), definitions, path)
    unknown = shape.keys() - _HANDLED - _DROPPED - set(_KEPT)
    if unknown:
        raise UnstructuralError(path, f"{', '.join(sorted(unknown))} cannot be said in a structural schema")
    if "const" in shape:
        shape = shape | {"enum": [shape["const"]]}
    kind = shape.get("type")
    result = {key: shape[key] for key in _KEPT if key in shape}
    result |= _convert_numbers(shape)
    default = shape.get("default")
    if default is not None and not isinstance(default, dict) and default != []:
        result["default"] = default
    match kind:
        case "object":
            result |= _convert_object(shape, definitions, path)
        case "array":
            result["items"] = _convert(shape["items"], definitions, f"{path}[]")
            result["maxItems"] = _bound(shape, "maxItems", path)
        case "string" if "enum" not in shape and "format" not in shape:
            _bound(shape, "maxLength", path)
        case "string" | "integer" | "number" | "boolean":
            pass
        case None if shape.get(_EITHER):
            pass
        case _:
            raise UnstructuralError(path, "has no single type")
    return _name_least(result, shape, str(kind))


def _inline(shape: Schema, definitions: Schema) -> Schema:
    """With a reference replaced by what it names; what stands beside it wins."""
    if "$ref" not in shape:
        return shape
    target = definitions[shape["$ref"].rsplit("/", 1)[1]]
    return _inline(target | {key: value for key, value in shape.items() if key != "$ref"}, definitions)


def _unwrap(shape: Schema, definitions: Schema, path: str) -> Schema:
    """Without the null of an optional field: in a cluster a field that is not set is absent."""
    if "anyOf" not in shape:
        return shape
    kinds = [kind for kind in shape["anyOf"] if kind.get("type") != "null"]
    if len(kinds) != 1 or len(shape["anyOf"]) > 2:
        raise UnstructuralError(path, "is a union")
    return _inline(kinds[0], definitions) | {key: value for key, value in shape.items() if key != "anyOf"}


def _convert_numbers(shape: Schema) -> Schema:
    if "exclusiveMinimum" in shape:
        return {"minimum": shape["exclusiveMinimum"], "exclusiveMinimum": True}
    return {"minimum": shape["minimum"]} if "minimum" in shape else {}


def _convert_object(shape: Schema, definitions: Schema, path: str) -> Schema:
    if "properties" in shape:
        named = shape["properties"].items()
        return {
            "properties": {name: _describe(_convert(s, definitions, f"{path}.{name}"), path, name) for name, s in named}
        }
    keys = shape.get("propertyNames", {})
    if "enum" in keys:
        value = _convert(shape["additionalProperties"], definitions, f"{path}{{}}")
        return {"properties": dict.fromkeys(keys["enum"], value)}
    match shape.get("patternProperties"):
        case dict() as patterns if len(patterns) == 1:
            ((pattern, value),) = patterns.items()
            rule = {"rule": f"self.all(key, key.matches(r'{pattern}'))", "message": "a key has the wrong form"}
            rules = {_RULES: [*shape.get(_RULES, ()), rule]}
        case None if isinstance(shape.get("additionalProperties"), dict):
            value, rules = shape["additionalProperties"], {}
        case _:
            raise UnstructuralError(path, "has neither named properties nor values of one type")
    return {
        "additionalProperties": _convert(value, definitions, f"{path}{{}}"),
        "maxProperties": _bound(shape, "maxProperties", path),
        **rules,
    }


def _describe(schema: Schema, path: str, name: str) -> Schema:
    if "description" not in schema:
        raise UnstructuralError(f"{path}.{name}", "has no description")
    return schema


def _bound(shape: Schema, bound: str, path: str) -> int:
    if bound not in shape:
        raise UnstructuralError(path, f"has no {bound}")
    return int(shape[bound])


def _name_least(result: Schema, shape: Schema, kind: str) -> Schema:
    """pydantic says minLength for a list and a map, too, where a validator stands between the type and its bound."""
    least = _LEAST.get(kind)
    if least is None:
        return result
    given = shape.get(least, result.pop("minLength", None))
    return result if given is None else result | {least: given}
