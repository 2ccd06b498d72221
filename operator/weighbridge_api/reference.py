"""The reference of the kinds in Markdown: every field, what it takes and what is refused, from the CRDs' schemas.

What a schema says of a text's form is a pattern; here it stands in the words in which a wrong one is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from weighbridge_api import values
from weighbridge_api.crd import KINDS, Column, Kind, build_crd
from weighbridge_api.values import Matching

Schema = dict[str, Any]

_TOP = (
    "# Reference\n\nEvery field of the two kinds, made from the models by `weighbridge crds --reference`: "
    "change those, not this page. What fields do together: [objects.md](objects.md). "
    "Durations are written `250ms`, `30s`, `15m`, `1h30m`.\n"
)
_SPEC_HEAD = "| field | takes | default | meaning |\n| --- | --- | --- | --- |"
_STATUS_HEAD = "| field | holds | says |\n| --- | --- | --- |"
_RULES = "x-kubernetes-validations"
_FORMS = {
    f"^({form.pattern})$": form.remedy
    for kind in vars(values).values()
    for form in get_args(kind)
    if isinstance(form, Matching)
}


def write_reference() -> str:
    """The page. Raises schema.UnstructuralError."""
    return "\n".join([_TOP, *(line for kind in KINDS for line in _kind(kind)), *_conditions()])


def _kind(kind: Kind) -> Iterator[str]:
    crd = build_crd(kind)["spec"]
    whole = crd["versions"][0]["schema"]["openAPIV3Schema"]
    spec, status = whole["properties"]["spec"], whole["properties"]["status"]
    yield f"## {crd['names']['kind']}\n"
    yield f"{whole['description']} For kubectl `{kind.plural}` or `{kind.short}`.\n"
    yield _SPEC_HEAD
    yield from (f"| `{path}` | {_takes(field)} | {default} | {_cell(field)} |" for path, field, default in _walk(spec))
    yield f"\n### Status of a {crd['names']['kind']}\n"
    yield f"{status['description']} `kubectl get` prints {_columns(kind.columns)}.\n"
    yield _STATUS_HEAD
    yield from _status_rows(status, "status")
    yield ""


def _conditions() -> Iterator[str]:
    node = build_crd(KINDS[0])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    items = node["properties"]["status"]["properties"]["conditions"]["items"]
    yield "## Conditions\n"
    yield f"{items['description']} What each reason means and what to do: [troubleshooting.md](troubleshooting.md).\n"
    yield _STATUS_HEAD
    yield from _status_rows(items, "status.conditions[]")
    yield ""


def _columns(columns: tuple[Column, ...]) -> str:
    usual = ", ".join(column.name for column in columns if not column.wide)
    return f"{usual}; with `-o wide` also {', '.join(column.name for column in columns if column.wide)}"


def _walk(spec: Schema) -> Iterator[tuple[str, Schema, str]]:
    """Path, schema and default of the spec and of all below it."""
    yield "spec", spec, ""
    yield from _walk_below(spec, "spec")


def _walk_below(schema: Schema, path: str) -> Iterator[tuple[str, Schema, str]]:
    if _alike(schema):
        # One row, or the rows of one, are enough for fields that are all alike.
        yield from _walk_below(next(iter(schema["properties"].values())), f"{path}.*")
        return
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        full = _name(path, name, field)
        yield full, field, "required" if name in required else _default(field)
        yield from _walk_below(field.get("items", field), full)


def _status_rows(schema: Schema, path: str) -> Iterator[str]:
    for name, field in schema["properties"].items():
        full = _name(path, name, field)
        yield f"| `{full}` | {_form(field)} | {_cell(field)} |"
        inner = field.get("items", field)
        if name != "conditions" and "properties" in inner:
            yield from _status_rows(inner, full)


def _name(path: str, name: str, field: Schema) -> str:
    return f"{path}.{name}" + ("[]" if "properties" in field.get("items", {}) else "")


def _alike(schema: Schema) -> bool:
    shapes = list(schema.get("properties", {}).values())
    return len(shapes) > 1 and all(shape == shapes[0] for shape in shapes)


def _cell(field: Schema) -> str:
    return str(field["description"]).replace("\n", " ").replace("|", "\\|")


def _default(field: Schema) -> str:
    match field.get("default"):
        case None | "":
            return ""
        case list(several):
            return ", ".join(f"`{one}`" for one in several)
        case one:
            return f"`{one}`"


def _takes(field: Schema) -> str:
    """The form of a value, then what refuses one."""
    told = _form(field)
    forms = [_FORMS[field["pattern"]]] if field.get("pattern") in _FORMS else []
    # What a path must not hold stands in its form already.
    rules = [_rule(rule) for rule in field.get(_RULES, ()) if not (forms and rule["message"].startswith("must not"))]
    return "; ".join([told, *forms, *(rule for rule in rules if rule not in told)]).replace("|", "\\|")


def _rule(rule: dict[str, str]) -> str:
    for pattern, remedy in _FORMS.items():
        if pattern in rule["rule"]:
            return f"names: {remedy}"
    message = rule["message"]
    return message.removeprefix("must be ") if message.startswith("must be ") else f'refused: "{message}"'


def _form(field: Schema) -> str:  # noqa: PLR0911  a table of forms
    match field:
        case {"x-kubernetes-int-or-string": True}:
            return _rule(field[_RULES][0])
        case {"enum": words}:
            return ", ".join(words)
        case {"type": "array", "items": items, "maxItems": most}:
            return f"list, {_count(field.get('minItems'), most)}" + _each(items)
        case {"type": "object", "additionalProperties": one}:
            return f"names with values, {_count(field.get('minProperties'), field['maxProperties'])}" + _each(one)
        case {"type": "object", "properties": properties} if _alike(field):
            return f"{', '.join(properties)}, each: {_takes(next(iter(properties.values())))}"
        case {"type": "object" | "boolean" as plain}:
            return "true or false" if plain == "boolean" else "object"
        case {"type": "integer" | "number"}:
            return _bounds(field)
    return _text(field)


def _each(one: Schema) -> str:
    return "" if one["type"] == "object" else f", each: {_takes(one)}"


def _count(least: int | None, most: int) -> str:
    return f"{least} to {most}" if least else f"at most {most}"


def _bounds(field: Schema) -> str:
    whole = "whole number" if field["type"] == "integer" else "number"
    match field:
        case {"minimum": least, "maximum": most}:
            above = "above " if field.get("exclusiveMinimum") else ""
            return f"{whole}, {above}{least:,} to {most:,.0f}"
        case {"minimum": least}:
            return f"{whole}, {least} or more"
    return whole


def _text(field: Schema) -> str:
    pattern = field.get("pattern", "")
    if "h|m|s|ms" in pattern:
        return f"duration, {_rule(field[_RULES][0])}"
    if pattern.endswith("%$"):
        return "percentage, 0% to 100%"
    return "instant" if field.get("format") == "date-time" else f"text, at most {field['maxLength']:,}"
