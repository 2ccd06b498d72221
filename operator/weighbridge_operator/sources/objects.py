"""From documents to objects: which kind a document is, whether it is valid, and where in the file it is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from weighbridge_api.base import API_VERSION, Resource
from weighbridge_api.drafts import Draft, draw
from weighbridge_api.faults import Fault, spell, suggest
from weighbridge_api.modelnode import ModelNode, ModelNodeSpec
from weighbridge_api.routepolicy import RoutePolicy, RoutePolicySpec
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
    #: It is wrong on this machine, and may be right where the file is to be used.
    local: bool = False

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
    #: What it is apart from its problems, for those who look for more of them; never served.
    draft: Draft | None = None


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
    name = _name(value)
    kind, wrong = _check_kind(value)
    flaws = (*document.flaws, *(_place(document, each) for each in wrong))
    draft = Draft(None, (), ())
    if kind is not None:
        version, model = _KINDS[kind]
        draft = _validate(model, document, value | {"apiVersion": version, "kind": kind})
        flaws = (*flaws, *(_place(document, each) for each in draft.faults if not _is_known(each, document.flaws)))
    local = kind == "Secret" and not private
    problems = tuple(_state(file, name, flaw) for flaw in flaws)
    if local:
        flaw = Flaw(document.start, (), "is in a file that others can read", f"chmod 600 {file}")
        problems = (*problems, replace(_state(file, name, flaw), local=True))
    ref = None if wrong else _identify(value)
    return Reading(ref, None if problems else draft.object, start, problems, draft)


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


def _check_kind(value: dict[str, object]) -> tuple[str | None, tuple[Fault, ...]]:
    """The kind that the document is or was meant to be, if one can tell, and what is wrong with how it says so."""
    kind, version = value.get("kind"), value.get("apiVersion")
    faults: list[Fault] = []
    meant = kind if isinstance(kind, str) and kind in _KINDS else None
    if kind is None:
        meant = _guess_kind(value)
        faults.append(Fault(("kind",), "is missing", "add kind: ModelNode, or RoutePolicy"))
    elif meant is None:
        meant = suggest(kind, _KINDS) if isinstance(kind, str) else None
        remedy = f"did you mean {meant}?" if meant else f"known kinds are {_KNOWN}"
        faults.append(Fault(("kind",), "is not known", remedy))
    wanted = _KINDS[meant][0] if meant else API_VERSION
    if version is None:
        faults.append(Fault(("apiVersion",), "is missing", f"add apiVersion: {wanted}"))
    elif version != wanted and meant:
        faults.append(Fault(("apiVersion",), f"is not that of a {meant}", f"write apiVersion: {wanted}"))
    return meant, tuple(faults)


def _guess_kind(value: dict[str, object]) -> str | None:
    """By its fields, where no two kinds have them."""
    if "data" in value or "stringData" in value:
        return "Secret"
    spec = value.get("spec")
    written = set(spec) if isinstance(spec, dict) else set()
    fitting = [
        kind
        for kind, fields in (("ModelNode", ModelNodeSpec.model_fields), ("RoutePolicy", RoutePolicySpec.model_fields))
        if written & {info.alias or name for name, info in fields.items()}
    ]
    return fitting[0] if len(fitting) == 1 else None


def _validate(model: type[Resource], document: Document, value: dict[str, object]) -> Draft:
    empty = tuple(path for path in document.empty if path[0] == "spec")
    missing = tuple(Fault(path, "has no value", "give it one, or remove the line", path) for path in empty)
    draft = draw(model, value, empty)
    return replace(draft, faults=(*missing, *draft.faults))


def _is_known(fault: Fault, flaws: Iterable[Flaw]) -> bool:
    """A place that could not be read as it was meant is wrong once, not twice."""
    place = fault.cure or fault.path
    belows = [(flaw.path, flaw.path if flaw.below is None else flaw.below) for flaw in flaws]
    return any(place == path or place[: len(below)] == below for path, below in belows)


def _place(document: Document, fault: Fault) -> Flaw:
    return Flaw(document.locate(fault.path), fault.path, fault.message, fault.remedy)


def _state(file: str, name: str | None, flaw: Flaw) -> Problem:
    return Problem(file, flaw.mark.line, flaw.mark.column, name, spell(flaw.path), flaw.message, flaw.remedy)
