"""A fault is what is wrong with one field and what to change, in words that a person can act on.

Every validator of this package raises `fault(...)`; pydantic's own errors are translated here, so that a file's line, a
condition in the cluster and `weighbridge check` all say the same thing. Only short plain scalars are repeated, and
nothing at all of an object that holds secret values.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """`cure` and what follows say how to look past the fault, for `drafts`; paths are whole ones."""

    path: Path
    message: str
    remedy: str
    #: What the remedy would touch; its own path where the rule did not say.
    cure: Path = field(default=(), compare=False)
    #: What would stand there once it is mended; None leaves it out.
    instead: object = field(default=None, compare=False)
    #: Values that the rule speaks of, where they lie elsewhere than at `cure`.
    about: tuple[Path, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        """`spec.port: must be 65535 or less, not 80000; change the number`."""
        words = ": ".join(part for part in (spell(self.path), self.message) if part)
        return f"{words}; {self.remedy}" if self.remedy else words


def fault(
    message: str, remedy: str = "", *, cure: Path = (), instead: object = None, about: Sequence[Path] = ()
) -> PydanticCustomError:
    """The error that a validator raises; both texts are complete, no templates. Paths are from its place on."""
    context = {"words": message, "remedy": remedy, "cure": cure, "instead": instead, "about": tuple(about)}
    return PydanticCustomError("fault", "{words}", context)


def spell(path: Path) -> str:
    """`spec.models[0].name`; a key that holds a dot or a slash is written in brackets and quotes."""
    text = ""
    for step in path:
        match step:
            case int():
                text += f"[{step}]"
            case str() if step.replace("_", "").replace("-", "").isalnum():
                text += f".{step}" if text else step
            case str():
                text += f'["{step[:80]}"]'
    return text


def read_faults(error: ValidationError, model: type[BaseModel], *, quote: bool = True) -> tuple[Fault, ...]:
    """Every fault that pydantic found, in the order of the fields. `quote=False` for objects with secret values."""
    items = [item for item in error.errors(include_url=False) if not _is_echo(item)]
    found = [_translate(item, model, quote=quote) for item in items]
    meant = {_rename(fault) for item, fault in zip(items, found, strict=True) if item["type"] == "extra_forbidden"}
    kept = (f for item, f in zip(items, found, strict=True) if item["type"] != "missing" or f.path not in meant)
    return tuple(dict.fromkeys(kept))


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    by_lower = {name.lower(): name for name in known}
    bare = word.lower().replace("_", "").replace("-", "")
    close = difflib.get_close_matches(bare, by_lower, n=1, cutoff=0.7)
    return by_lower[close[0]] if close else None


def list_words(words: Iterable[str]) -> str:
    """`a, b or c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"


def _is_echo(item: ErrorDetails) -> bool:
    """An invalid entry makes its list too short, and an invalid field another's default unknown: it says it all."""
    value = item["input"]
    if item["type"] == "default_factory_not_called":
        return True
    return item["type"] == "too_short" and isinstance(value, Sized) and len(value) >= item["ctx"]["min_length"]


def _rename(fault: Fault) -> Path:
    """The path of the field that an unknown one was probably meant to be: it is not missing as well."""
    meant = fault.remedy.removeprefix("did you mean ").removesuffix("?")
    return (*fault.path[:-1], meant)


def _translate(item: ErrorDetails, model: type[BaseModel], *, quote: bool) -> Fault:
    path = _trim(item["loc"])
    value = item["input"]
    context: dict[str, Any] = item.get("ctx", {})
    match item["type"]:
        case "fault":
            words = context["words"], context["remedy"]
        case "missing":
            words = "is missing", "add it"
        case "extra_forbidden":
            words = "is not a known field", _remedy_unknown(path, model)
        case "literal_error":
            words = _word_literal(value, str(context["expected"]), quote=quote)
        case kind if kind.endswith("_type") or kind in _TYPE_ERRORS:
            words = _word_type(kind, value, quote=quote)
        case kind if kind in _LENGTHS:
            message, remedy = _LENGTHS[kind]
            words = message.format(**context), remedy.format(**context)
        case kind if kind in _BOUNDS:
            bound = _BOUNDS[kind].format(**context)
            words = f"must be {bound}{_quote(value, quote=quote)}", "change the number"
        case _:
            words = item["msg"], ""
    about = (path,) if item["type"] == "too_short" else tuple((*path, *each) for each in context.get("about", ()))
    return Fault(path, *words, (*path, *context.get("cure", ())), context.get("instead"), about)


_LENGTHS = {
    "too_long": ("has {actual_length} entries, at most {max_length} are allowed", "remove some"),
    "too_short": ("is empty", "add at least {min_length}"),
    "string_too_long": ("is longer than {max_length} characters", "shorten it"),
    "string_too_short": ("is empty", "give it a value"),
}
_BOUNDS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "finite_number": "a finite number",
}
_TYPE_ERRORS = {
    "dict_type": "mapping",
    "int_from_float": "int",
    "model_attributes_type": "mapping",
    "model_type": "mapping",
}
_WANTED = {
    "string": ("a string", ""),
    "int": ("a whole number", "write it as a plain number, without quotes"),
    "float": ("a number", "write it as a plain number, without quotes"),
    "bool": ("true or false", "write true or false"),
    "tuple": ("a list", "write it as a list: one `- ...` a line, or [ ]"),
    "list": ("a list", "write it as a list: one `- ...` a line, or [ ]"),
    "mapping": ("a mapping", "write `key: value` lines below it, indented"),
}


def _word_type(kind: str, value: object, *, quote: bool) -> tuple[str, str]:
    wanted = _TYPE_ERRORS.get(kind, kind.removesuffix("_type"))
    words, remedy = _WANTED.get(wanted, (f"a {wanted}", ""))
    if wanted == "string":
        remedy = _remedy_string(value, quote=quote)
    elif wanted in {"int", "float"} and isinstance(value, str) and not _is_number(value):
        remedy = "write a number"
    return f"must be {words}, not {_describe(value, quote=quote)}", remedy


def _remedy_string(value: object, *, quote: bool) -> str:
    # YAML has read yes, 1.0 or 0x10 as something else; what was written is gone, so only whole numbers are shown.
    if type(value) is int and quote:
        return f'put it in quotes: "{value}"'
    return "put it in quotes" if isinstance(value, bool | int | float) else "write a string"


def _word_literal(value: object, expected: str, *, quote: bool) -> tuple[str, str]:
    known = [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]
    close = suggest(value, known) if isinstance(value, str) and quote else None
    remedy = f"did you mean {close}?" if close else f"write {known[0]}" if len(known) == 1 else "write one of these"
    return f"must be {list_words(known)}{_quote(value, quote=quote)}", remedy


def _remedy_unknown(path: Path, model: type[BaseModel]) -> str:
    parent = _find_model(model, path[:-1])
    known = sorted(_aliases(parent)) if parent is not None else []
    close = suggest(str(path[-1]), known)
    if close is not None:
        return f"did you mean {close}?"
    return f"remove it; known here: {', '.join(known)}" if known else "remove it"


def _aliases(model: type[BaseModel]) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


def _find_model(model: type[BaseModel] | None, path: Path) -> type[BaseModel] | None:
    """The model that `path` leads to; list positions are passed over."""
    for step in path:
        if model is None or isinstance(step, int):
            continue
        model = next((_model_in(f.annotation) for n, f in model.model_fields.items() if (f.alias or n) == step), None)
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((found for found in inner if found is not None), None)


def _trim(path: tuple[str | int, ...]) -> Path:
    """Without pydantic's own marks for a mapping's key."""
    return tuple(step for step in path if step != "[key]")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _describe(value: object, *, quote: bool) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "a yes or no" if not quote else f"the truth value {str(value).lower()}"
        case int() | float():
            return f"the number {value}" if quote else "a number"
        case str():
            return f'the text "{value}"' if quote and len(value) <= 40 else "a text"
        case dict():
            return "a mapping"
        case _:
            return "a list"


def _quote(value: object, *, quote: bool) -> str:
    return f", not {value!r}" if quote and isinstance(value, str | int | float) and len(str(value)) <= 40 else ""
