"""From documents to objects: which kind a document is, whether it is valid, and where in the file it is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from weighbridge_api.base import API_VERSION, Resource
from weighbridge_api.faults import Fault, read_faults, spell, suggest
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_api.secret import Secret
from weighbridge_operator.sources.documents import Document, Flaw
from weighbridge_operator.state import Ref

_KINDS: dict[str, tuple[str, type[Resource]]] = {
    "ModelNode": (API_VERSION, ModelNode),
    "RoutePolicy": (API_VERSION, RoutePolicy),
    "Secret": ("v1", Secret),
}
_KNOWN = f"ModelNode and RoutePolicy ({API_VERSION}) and Secret (v1)"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a file: where, in what, and what to change. Prints as one line."""

    file: str
    line: int
    column: int
    object: str | None  # "ModelNode qwen-a"
    field: str  # "spec.models[0].name", empty where it concerns the whole
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = ": ".join(part for part in (place, self.object, self.field, self.message) if part)
        return " ".join(f"{text}; {self.remedy}".split()) if self.remedy else " ".join(text.split())


@dataclass(frozen=True, slots=True)
class Reading:
    """What one document turned out to be. `ref` is None where it does not say which object it is."""

    ref: Ref | None
    object: Resource | None
    line: int
    problems: tuple[Problem, ...]


def read_objects(file: str, documents: Iterable[Document], *, private: bool) -> Iterator[Reading]:
    """One reading for each document; `private` says that only the file's owner can read it."""
    for document in documents:
        yield _read_object(file, document, private=private)


def _read_object(file: str, document: Document, *, private: bool) -> Reading:
    value = document.value
    start = document.start.line
    if not isinstance(value, dict):
        flaws = document.flaws or (_refuse_shape(document),)
        return Reading(None, None, start, tuple(_state(file, None, flaw) for flaw in flaws))
    ref = _identify(value)
    name = _name(value)
    wrong = _check_kind(value)
    if wrong is not None:
        flaws = (*document.flaws, _place(document, wrong))
        return Reading(None, None, start, tuple(_state(file, name, flaw) for flaw in flaws))
    model = _KINDS[str(value["kind"])][1]
    found, faults = _validate(model, document)
    flaws = (*document.flaws, *(_place(document, each) for each in faults if not _is_known(each, document.flaws)))
    if model is Secret and not private:
        flaws = (*flaws, Flaw(document.start, (), "is in a file that others can read", f"chmod 600 {file}"))
    problems = tuple(_state(file, name, flaw) for flaw in flaws)
    return Reading(ref, None if problems else found, start, problems)


def _refuse_shape(document: Document) -> Flaw:
    what = "a list" if isinstance(document.value, list) else "a plain value"
    remedy = "write each object as a document of its own, with --- between them"
    return Flaw(document.start, (), f"is {what}, not an object", remedy)


def _identify(value: dict[str, object]) -> Ref | None:
    """The object that the document means, valid or not."""
    metadata = value.get("metadata")
    kind = value.get("kind")
    if not isinstance(metadata, dict) or not isinstance(kind, str):
        return None
    name, namespace = metadata.get("name"), metadata.get("namespace") or "default"
    if not isinstance(name, str) or not isinstance(namespace, str):
        return None
    return Ref(kind, namespace, name)


def _name(value: dict[str, object]) -> str | None:
    """How a line names the object, as far as the document says."""
    ref = _identify(value)
    if ref is not None:
        place = "" if ref.namespace == "default" else f"{ref.namespace[:63]}/"
        return f"{ref.kind[:63]} {place}{ref.name[:253]}"
    kind = value.get("kind")
    return kind[:63] if isinstance(kind, str) else None


def _check_kind(value: dict[str, object]) -> Fault | None:
    """Why the document is none of the kinds that are read."""
    kind, version = value.get("kind"), value.get("apiVersion")
    if kind is None:
        return Fault(("kind",), "is missing", "add kind: ModelNode, or RoutePolicy")
    if not isinstance(kind, str) or kind not in _KINDS:
        close = suggest(kind, _KINDS) if isinstance(kind, str) else None
        remedy = f"did you mean {close}?" if close else f"known kinds are {_KNOWN}"
        return Fault(("kind",), "is not known", remedy)
    wanted = _KINDS[kind][0]
    if version is None:
        return Fault(("apiVersion",), "is missing", f"add apiVersion: {wanted}")
    if version != wanted:
        return Fault(("apiVersion",), f"is not that of a {kind}", f"write apiVersion: {wanted}")
    return None


def _validate(model: type[Resource], document: Document) -> tuple[Resource | None, tuple[Fault, ...]]:
    empty = tuple(path for path in document.empty if path[0] == "spec")
    missing = tuple(Fault(path, "has no value", "give it one, or remove the line") for path in empty)
    try:
        found = model.from_file(document.value)
    except ValidationError as error:
        faults = read_faults(error, model, quote=model.quotable)
        return None, (*missing, *(fault for fault in faults if fault.path not in empty))
    return found, missing


def _is_known(fault: Fault, flaws: Iterable[Flaw]) -> bool:
    """A place that could not be read as it was meant is wrong once, not twice."""
    return any(flaw.path[: len(fault.path)] == fault.path[: len(flaw.path)] for flaw in flaws)


def _place(document: Document, fault: Fault) -> Flaw:
    return Flaw(document.locate(fault.path), fault.path, fault.message, fault.remedy)


def _state(file: str, name: str | None, flaw: Flaw) -> Problem:
    return Problem(file, flaw.mark.line, flaw.mark.column, name, spell(flaw.path), flaw.message, flaw.remedy)
