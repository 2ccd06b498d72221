"""Objects from YAML files, the standalone form of what a cluster stores.

A file system is no database: files are half written, swapped, broken in one place. So nothing that was good is given
up for something that cannot be read. An object goes when its file no longer has it or is gone; it stays in its last
good form when it is invalid now, when its file cannot be parsed or is empty, which is how one begins that is being
written, or when its directory has vanished. `settle` decides that from what was read and what was held, without I/O; a
fresh start holds nothing and so has only what is valid now.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from weighbridge_api.base import Resource
from weighbridge_api.drafts import Draft
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_api.secret import Secret
from weighbridge_operator.sources.documents import read_documents
from weighbridge_operator.sources.listing import FileText, Fingerprint, read_files, take_fingerprint
from weighbridge_operator.sources.objects import Problem, Reading, read_objects
from weighbridge_operator.state import DesiredState, Ref, Rejection

_POLL = 0.25
_QUIET = 0.1
_LONGEST = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """An object in its last good form, and where it stands now."""

    object: Resource
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Sketch:
    """An object that does not serve, as it would be without its mistakes."""

    draft: Draft
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files ask for. `objects` includes those held in their last good form."""

    objects: Mapping[Ref, Held] = field(default_factory=dict, repr=False)
    rejections: tuple[Rejection, ...] = ()
    problems: tuple[Problem, ...] = ()
    #: For who looks for more problems; in the order of the files.
    sketches: tuple[Sketch, ...] = field(default=(), repr=False)
    #: Files without any object: nothing, or comments alone. As kubectl does, they are passed over.
    blank: tuple[str, ...] = field(default=(), compare=False)

    @property
    def desired(self) -> DesiredState:
        """The state that the rest of the pipeline knows; addresses are for the caller to resolve."""
        found = [self.objects[ref].object for ref in sorted(self.objects)]
        return DesiredState(
            nodes=tuple(item for item in found if isinstance(item, ModelNode)),
            policies=tuple(item for item in found if isinstance(item, RoutePolicy)),
            secrets={
                (item.metadata.namespace, item.metadata.name): item.entries()
                for item in found
                if isinstance(item, Secret)
            },
            rejections=self.rejections,
        )


def load(paths: Sequence[Path], held: Mapping[Ref, Held] | None = None) -> Loaded:
    """Reads files and directories. `held` is the `objects` of the previous load; none of it at a fresh start."""
    return settle(read_files(paths), held or {})


async def watch(
    paths: Sequence[Path],
    poll: float = _POLL,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Loaded]:
    """What the files ask for, at once and after every change that means something. Seconds; ends by cancellation."""
    seen = await asyncio.to_thread(take_fingerprint, paths)
    loaded = await asyncio.to_thread(load, paths)
    yield loaded
    while True:
        await sleep(poll)
        if await asyncio.to_thread(take_fingerprint, paths) == seen:
            continue
        seen = await _wait_quiet(paths, sleep)
        newer = await asyncio.to_thread(load, paths, loaded.objects)
        if newer != loaded:
            loaded = newer
            yield loaded


async def _wait_quiet(paths: Sequence[Path], sleep: Callable[[float], Awaitable[None]]) -> Fingerprint:
    """The fingerprint once it has stood still, or after the longest wait. It is older than what is read next."""
    last = await asyncio.to_thread(take_fingerprint, paths)
    for _ in range(round(_LONGEST / _QUIET)):
        await sleep(_QUIET)
        now = await asyncio.to_thread(take_fingerprint, paths)
        if now == last:
            break
        last = now
    return last


def settle(files: Sequence[FileText], held: Mapping[Ref, Held]) -> Loaded:
    """Decides what serves, from what was read and what was held before."""
    problems: list[Problem] = []
    places: dict[Ref, list[tuple[str, Reading]]] = defaultdict(list)
    unread: dict[str, Problem] = {}
    read: list[tuple[str, Reading]] = []
    held_files = {each.file for each in held.values()}
    for file in files:
        if (trouble := _state_trouble(file, held_files)) is not None:
            problems.append(trouble)
            # What a directory held is not known to be gone with it; what a file held is.
            unread |= {file.name + os.sep: trouble} | ({} if file.gone else {file.name: trouble})
        for reading in read_objects(file.name, read_documents(file.data or b""), private=file.private):
            problems.extend(reading.problems)
            read.append((file.name, reading))
            if reading.ref is not None:
                places[reading.ref].append((file.name, reading))
            elif reading.problems:
                unread.setdefault(file.name, reading.problems[0])
    objects, rejections = dict[Ref, Held](), list[Rejection]()
    for ref, found in places.items():
        problems.extend(doubles := _name_doubles(ref, found) if len(found) > 1 else ())
        file_name, reading = found[0]
        if reading.object is not None and not doubles:
            objects[ref] = Held(reading.object, file_name, reading.line)
            continue
        if ref in held:
            objects[ref] = Held(held[ref].object, file_name, reading.line)
        rejections.append(Rejection(ref, _sum_up(doubles or reading.problems), held=ref in held))
    for ref, reason in _find_lost(held, places, unread):
        objects[ref] = held[ref]
        rejections.append(Rejection(ref, str(reason), held=True))
    return Loaded(
        objects={ref: objects[ref] for ref in sorted(objects)},
        rejections=_sort(rejections),
        problems=_order((*problems, *_tell_held(rejections, objects))),
        sketches=tuple(_sketch(read, objects)),
        blank=tuple(_list_blank(files, {name for name, _ in read})),
    )


def _list_blank(files: Iterable[FileText], said: Set[str]) -> Iterator[str]:
    return (file.name for file in files if file.data is not None and file.trouble is None and file.name not in said)


def _tell_held(rejections: Iterable[Rejection], objects: Mapping[Ref, Held]) -> Iterator[Problem]:
    """Of Secrets, which have no condition that could say it."""
    for each in rejections:
        if each.held and each.ref.kind == "Secret":
            message, rest = "cannot be used as it is now", "its last valid form is still used"
            yield Problem(objects[each.ref].file, 0, 0, _name(each.ref), "", message, rest)


def _order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems), key=lambda each: (each.file, each.line, each.column, str(each))))


def _sort(rejections: Iterable[Rejection]) -> tuple[Rejection, ...]:
    return tuple(sorted((each for each in rejections if each.ref.kind != "Secret"), key=lambda each: each.ref))


def _sketch(read: Iterable[tuple[str, Reading]], objects: Mapping[Ref, Held]) -> Iterator[Sketch]:
    """Those that were read but do not serve."""
    for file, reading in read:
        serves = reading.ref is not None and reading.ref in objects and objects[reading.ref].object is reading.object
        if not serves and reading.draft is not None and reading.draft.object is not None:
            yield Sketch(reading.draft, file, reading.line)


def _state_trouble(file: FileText, held_files: Set[str]) -> Problem | None:
    trouble = file.trouble
    if trouble is None and file.name in held_files and not (file.data or b"").strip():
        trouble = ("is empty", "remove it, or write a comment into it, if its objects are to go")
    if trouble is None:
        return None
    message, remedy = trouble
    return Problem(file.name, 0, 0, None, "", message, remedy)


def _find_lost(
    held: Mapping[Ref, Held], places: Mapping[Ref, object], unread: Mapping[str, Problem]
) -> Iterator[tuple[Ref, Problem]]:
    """Objects that may still be there: their file, or its directory, could not be read as a whole."""
    for ref in held.keys() - places.keys():
        file = held[ref].file
        reason = unread.get(file) or unread.get(str(Path(file).parent) + os.sep)
        if reason is not None:
            yield ref, reason


def _name_doubles(ref: Ref, twice: Sequence[tuple[str, Reading]]) -> tuple[Problem, ...]:
    """One problem for each place, naming another place."""
    places = [(file, reading.line) for file, reading in twice]
    name = _name(ref)
    problems = []
    for index, (file, line) in enumerate(places):
        other_file, other_line = places[0] if index else places[1]
        message = f"is also in {other_file}:{other_line}"
        problems.append(Problem(file, line, 1, name, "", message, "remove one, or give it another name"))
    return tuple(problems)


def _name(ref: Ref) -> str:
    return f"{ref.kind} {ref.name}" if ref.namespace == "default" else f"{ref.kind} {ref.namespace}/{ref.name}"


def _sum_up(problems: Sequence[Problem]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"
