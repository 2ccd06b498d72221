"""The tables of docs/objects.md, made from the CRDs' schemas.

`PYTHONPATH=tests python -m support.fields docs/objects.md` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighbridge_api.crd import KINDS, build_crd

Schema = dict[str, Any]
HEAD = "| field | takes | default | meaning |\n| --- | --- | --- | --- |"


def write_tables(page: str) -> str:
    """The page with a fresh table after each `<!-- fields: Kind -->`."""
    for kind in KINDS:
        names = build_crd(kind)["spec"]
        schema = names["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        table = "\n".join([HEAD, *_rows(schema, "spec")])
        head = f"<!-- fields: {names['names']['kind']} -->\n"
        end = "<!-- end -->"
        page = re.sub(re.escape(head) + ".*?" + end, lambda _, t=head + table + "\n" + end: t, page, flags=re.DOTALL)
    return page


def _rows(schema: Schema, path: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        inner = field.get("items", field)
        full = f"{path}.{name}" + ("[]" if field.get("type") == "array" and "properties" in inner else "")
        yield _row(full, field, name in required)
        if name != "weights":  # one row is enough for signals that are all alike
            yield from _rows(inner, full)


def _row(path: str, field: Schema, required: bool) -> str:
    default = "required" if required else _default(field)
    meaning = field["description"].replace("\n", " ").replace("|", "\\|")
    return f"| `{path}` | {_takes(field)} | {default} | {meaning} |"


def _default(field: Schema) -> str:
    match field.get("default"):
        case None | "":
            return ""
        case list(values):
            return ", ".join(f"`{value}`" for value in values)
        case value:
            return f"`{value}`"


def _takes(field: Schema) -> str:  # noqa: PLR0911  a table of forms
    match field:
        case {"x-kubernetes-int-or-string": True}:
            return "number or name"
        case {"enum": words}:
            return ", ".join(words)
        case {"type": "array", "items": items, "maxItems": most}:
            return f"at most {most}: {_takes(items)}" if items["type"] != "object" else f"list of at most {most}"
        case {"type": "object", "additionalProperties": _}:
            return f"at most {field['maxProperties']} names with values"
        case {"type": "object", "properties": properties} if all(p["type"] == "number" for p in properties.values()):
            return ", ".join(properties)
        case {"type": "object"}:
            return "object"
        case {"type": "integer" | "number", "minimum": least, "maximum": most}:
            above = "above " if field.get("exclusiveMinimum") else ""
            return f"{above}{least:,} to {most:,.0f}"
        case {"pattern": pattern} if "h|m|s|ms" in pattern:
            bounds = field["x-kubernetes-validations"][0]["message"].removeprefix("must be ")
            return f"duration, {bounds}"
        case {"pattern": pattern} if pattern.endswith("%$"):
            return "percentage"
        case _:
            return f"text, at most {field['maxLength']}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(write_tables(target.read_text()))
