"""What is wrong with files as a whole, beside what is wrong with each object: what `weighbridge check` adds to reading.

An object with a mistake is looked at as it would be without (`weighbridge_api.drafts`), so that all of them are told in
one run. Three things are wrong on this machine only, perhaps, and are marked `local`: a name that the DNS does not
know, a Service, which exists in a cluster, and a certificate that has expired by this machine's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from weighbridge_api.base import Resource
from weighbridge_api.faults import Path as Place
from weighbridge_api.faults import spell
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_api.secret import Secret
from weighbridge_operator.core.doors import DoorNames, read_callers
from weighbridge_operator.core.findings import Finding
from weighbridge_operator.core.review import review
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.documents import Mark, read_documents
from weighbridge_operator.sources.files import Loaded
from weighbridge_operator.sources.listing import read_files
from weighbridge_operator.sources.objects import Problem
from weighbridge_operator.state import DesiredState, Ref
from weighbridge_operator.trust.material import MaterialError, read_material

LookUp = Callable[[Iterable[str]], Mapping[str, str]]
_LOCAL = frozenset({"AddressNotFound", "ServiceNotFound"})
_LACKS = frozenset({"NoModel", "VersionNotServed", "FallbackNotServed", "DefaultNotServed"})


@dataclass(frozen=True, slots=True)
class _Subject:
    """An object and where it stands. `cured`: places that do not hold what was written."""

    object: Resource
    title: str
    file: str
    line: int
    cured: tuple[Place, ...] = ()


def examine(loaded: Loaded, scope: Scope, names: DoorNames, look_up: LookUp, now: float) -> tuple[Problem, ...]:
    """Problems of the whole, sorted as those of reading are. `now`: seconds since 1970."""
    subjects = _gather(loaded)
    desired = _desire(subjects, look_up)
    findings = [each for each in review(desired, scope) if not _is_echo(each, subjects)]
    places = _Places()
    problems = [_tell(each, subjects[each.ref], places) for each in findings]
    problems += _judge_doors(names, subjects, places, now)
    return tuple(sorted(set(problems), key=lambda each: (each.file, each.line, each.column, str(each))))


def _gather(loaded: Loaded) -> dict[Ref, _Subject]:
    """Each object under a name of its own, also where two share one."""
    subjects = {
        ref: _Subject(held.object, f"{ref.kind} {_short(ref)}", held.file, held.line)
        for ref, held in loaded.objects.items()
    }
    for sketch in loaded.sketches:
        item = sketch.draft.object
        if item is None:
            continue
        ref = own = _refer(item)
        count = 1
        while own in subjects:
            count += 1
            own = replace(ref, name=f"{ref.name}.{count}")
        named = item.model_copy(update={"metadata": item.metadata.model_copy(update={"name": own.name})})
        subjects[own] = _Subject(named, f"{ref.kind} {_short(ref)}", sketch.file, sketch.line, sketch.draft.cured)
    return subjects


def _desire(subjects: Mapping[Ref, _Subject], look_up: LookUp) -> DesiredState:
    items = [subject.object for subject in subjects.values()]
    nodes = tuple(item for item in items if isinstance(item, ModelNode))
    secrets = {(s.metadata.namespace, s.metadata.name): s.entries() for s in items if isinstance(s, Secret)}
    policies = tuple(item for item in items if isinstance(item, RoutePolicy))
    addresses = look_up(node.spec.host for node in nodes if node.spec.host)
    # Whom the operator's machine trusts is not to be known here.
    return DesiredState(nodes, policies, secrets=secrets, addresses=addresses, authorities=b"")


def _is_echo(finding: Finding, subjects: Mapping[Ref, _Subject]) -> bool:
    """Whether it speaks of a value that is not the document's, or of what nobody knows as long as another is wrong."""
    own = finding.message.partition(":")[0]
    if any(_meets(own, path) for path in subjects[finding.ref].cured):
        return True
    others = [each for ref, each in subjects.items() if ref.namespace == finding.ref.namespace and each.cured]
    if finding.reason == "SecretInvalid":
        secrets = [each.object.metadata.name for each in others if isinstance(each.object, Secret)]
        return any(f"Secret {name} " in finding.message for name in secrets)
    if finding.reason == "Overruled":
        policies = [each for each in others if any(_meets("spec.match", path) for path in each.cured)]
        return any(f" {_id(each.object)} " in finding.message for each in policies)
    nodes = [path for each in others if isinstance(each.object, ModelNode) for path in each.cured]
    if finding.reason == "NoNodes":
        return any(path[:2] in (("metadata",), ("metadata", "labels")) for path in nodes)
    return finding.reason in _LACKS and any(path in (("spec",), ("spec", "models")) for path in nodes)


def _tell(finding: Finding, subject: _Subject, places: _Places) -> Problem:
    field, _, words = finding.message.partition(": ")
    message, _, remedy = words.rpartition("; ") if "; " in words else (words, "", "")
    return places.state(subject, field, message, remedy, local=finding.reason in _LOCAL)


def _meets(name: str, path: Place) -> bool:
    """Whether one lies in the other."""
    spelled = spell(path)
    pairs = ((name, spelled), (spelled, name))
    return any(long == short or long.startswith((f"{short}.", f"{short}[")) for long, short in pairs)


class _Places:
    """Where each field of the documents stands; a file is read once, when the first line of it is asked for."""

    def __init__(self) -> None:
        self._files: dict[str, dict[int, dict[str, Mark]]] = {}

    def state(self, subject: _Subject, field: str, message: str, remedy: str, *, local: bool = False) -> Problem:
        """A problem of the object, at the field or the nearest thing around it that is written."""
        if subject.file not in self._files:
            (text,) = read_files([Path(subject.file)])
            self._files[subject.file] = {
                document.start.line: {spell(path): mark for path, mark in document.marks.items()}
                for document in read_documents(text.data or b"")
            }
        known = self._files[subject.file].get(subject.line, {})
        at = field
        while at and at not in known:
            at = at.rpartition(".")[0]
        mark = known.get(at, Mark(subject.line, 1))
        return Problem(subject.file, mark.line, mark.column, subject.title, field, message, remedy, local)


def _judge_doors(names: DoorNames, subjects: Mapping[Ref, _Subject], places: _Places, now: float) -> Iterator[Problem]:
    for name, flag in ((names.tls, "--entrance-tls-secret"), (names.keys, "--keys-secret")):
        subject = subjects.get(Ref("Secret", names.namespace, name or ""))
        if name is None:
            continue
        if subject is None or not isinstance(subject.object, Secret):
            message = f"there is no Secret {names.namespace}/{name}"
            yield Problem("", 0, 0, None, flag, message, "add it to the files, or correct the name")
            continue
        entries = subject.object.entries()
        if name == names.tls:
            yield from _judge_certificate(entries, subject, places, now)
        if name == names.keys:
            yield from _judge_keys(entries, subject, places)


def _judge_certificate(
    entries: Mapping[str, bytes], subject: _Subject, places: _Places, now: float
) -> Iterator[Problem]:
    """For HTTPS at the entrance."""
    try:
        until = read_material(entries, trusts=False).until
    except MaterialError as error:
        for text in error.args:
            yield places.state(subject, "", f"for --entrance-tls-secret {text}", "make it of type kubernetes.io/tls")
        return
    if until.timestamp() <= now:
        yield places.state(subject, "", f"tls.crt has expired at {until:%Y-%m-%d %H:%M} UTC", "renew it", local=True)


def _judge_keys(entries: Mapping[str, bytes], subject: _Subject, places: _Places) -> Iterator[Problem]:
    """For callers."""
    if not entries:
        yield places.state(subject, "", "has no entry, so that nobody is let in", "add one for each caller")
    for client, why in read_callers(entries)[1].items():
        secret = subject.object
        field = "stringData" if isinstance(secret, Secret) and client in secret.string_data else "data"
        yield places.state(subject, spell((field, client)), why, "give it a key of its own: it lets nobody in")


def _refer(item: Resource) -> Ref:
    return Ref(type(item).__name__, item.metadata.namespace, item.metadata.name)


def _id(item: Resource) -> str:
    return f"{item.metadata.namespace}/{item.metadata.name}"


def _short(ref: Ref) -> str:
    return ref.name if ref.namespace == "default" else f"{ref.namespace}/{ref.name}"
