"""From the text of a YAML file to plain values that know where they were written.

A file is split at its `---` lines first, as kubectl does, so that a mistake in one document leaves the others readable.
Each document is then built from libyaml's events, which bounds depth and size before anything grows: an alias counts as
much as what it repeats. Plain scalars mean what they mean to kubectl (`on` is true), except that dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import yaml

from weighbridge_api.faults import Path
from weighbridge_operator.sources.mistakes import explain, find_binary

MOST_BYTES = 1 << 20
MOST_DOCUMENTS = 10_000
_MOST_NODES = 50_000
_DEEPEST = 32

_START = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*|0o?[0-7]+|0x[0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset(cased for word in ("true", "yes", "on") for cased in (word, word.title(), word.upper()))
_FALSE = frozenset(cased for word in ("false", "no", "off") for cased in (word, word.title(), word.upper()))
_SPECIAL = {".inf": float("inf"), "-.inf": float("-inf"), "+.inf": float("inf"), ".nan": float("nan")}


@dataclass(frozen=True, slots=True)
class Mark:
    """Line and column as an editor counts them, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with one place of a document."""

    mark: Mark
    path: Path
    message: str
    remedy: str
    #: Below this nothing was read as it was meant; None: below `path`.
    below: Path | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """`value` is None where the document could not be read at all; then it has a flaw."""

    start: Mark
    value: object
    marks: dict[Path, Mark]
    flaws: tuple[Flaw, ...]
    #: Fields that are written without a value.
    empty: tuple[Path, ...]

    def locate(self, path: Path) -> Mark:
        """Where `path` is written, or the nearest thing around it that is."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, self.start)


def read_documents(data: bytes) -> tuple[Document, ...]:
    """Every document that is not empty, in order."""
    if len(data) > MOST_BYTES:
        return (_refuse(Mark(1, 1), f"is larger than {MOST_BYTES >> 20} MiB", "split it into several files"),)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return (_refuse(Mark(1, 1), "is written in UTF-16", "save it as UTF-8"),)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return (_refuse(Mark(line, column), "is not UTF-8", "save it as UTF-8"),)
    binary = find_binary(text)
    if binary is not None:
        mark = Mark(text.count("\n", 0, binary) + 1, binary - text.rfind("\n", 0, binary))
        return (_refuse(mark, f"holds a control character (code {ord(text[binary])})", "remove it"),)
    starts = [match.start() for match in _START.finditer(text)]
    if len(starts) > MOST_DOCUMENTS:
        return (_refuse(Mark(1, 1), f"holds more than {MOST_DOCUMENTS} documents", "split it into several files"),)
    cuts = [0, *starts, len(text)]
    found: list[Document] = []
    line = 0
    for begin, end in pairwise(cuts):
        found.extend(_read_part(text[begin:end], line))
        line += text.count("\n", begin, end)
    return tuple(found)


def _refuse(mark: Mark, message: str, remedy: str) -> Document:
    return Document(mark, None, {}, (Flaw(mark, (), message, remedy),), ())


def _read_part(text: str, line: int) -> Iterator[Document]:
    """The documents of a part between two `---`: one, or none where it is empty, or more after `...` lines."""
    try:
        events = yaml.parse(text, Loader=yaml.CSafeLoader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(events, line)
                document = builder.build_document()
                if document.value is not None or document.flaws:
                    yield document
    except yaml.YAMLError as error:
        at, column, message, remedy = explain(error, text)
        yield _refuse(Mark(line + at + 1, column + 1), message, remedy)


class _TooLargeError(Exception):
    """The rest of the document is not worth reading."""


@dataclass(slots=True)
class _Builder:
    """Builds one document from libyaml's events, noting where everything is and what is wrong with it."""

    events: Iterator[yaml.Event]
    line: int
    marks: dict[Path, Mark] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    anchors: dict[str, tuple[object, int]] = field(default_factory=dict)
    nodes: int = 0

    def build_document(self) -> Document:
        first = next(self.events)
        start = self._mark(first)
        try:
            value = self._build(first, (), start)
        except _TooLargeError:
            value = None
            for event in self.events:
                if isinstance(event, yaml.DocumentEndEvent):
                    break
        return Document(start, value, self.marks, tuple(self.flaws), tuple(self.empty))

    def _mark(self, event: yaml.Event) -> Mark:
        mark = event.start_mark
        return Mark(self.line + mark.line + 1, mark.column + 1) if mark else Mark(self.line + 1, 1)

    def _flaw(self, mark: Mark, path: Path, message: str, remedy: str) -> None:
        self.flaws.append(Flaw(mark, path, message, remedy))

    def _build(self, event: yaml.Event, path: Path, mark: Mark) -> object:
        self.marks.setdefault(path, mark)
        before = self.nodes
        self._count(1, path, mark)
        if len(path) > _DEEPEST:
            self._flaw(mark, (), f"is nested more than {_DEEPEST} levels deep", "flatten it")
            raise _TooLargeError
        match event:
            case yaml.AliasEvent():
                return self._repeat(event.anchor or "", path, mark)
            case yaml.ScalarEvent():
                value = self._resolve(event, path, mark)
            case yaml.SequenceStartEvent():
                value = self._build_list(path)
            case _:
                value = self._build_mapping(path)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self.anchors[anchor] = (value, self.nodes - before)
        return value

    def _count(self, nodes: int, path: Path, mark: Mark) -> None:
        self.nodes += nodes
        if self.nodes > _MOST_NODES:
            self._flaw(mark, path, f"makes the object larger than {_MOST_NODES} values", "make it smaller")
            raise _TooLargeError

    def _repeat(self, anchor: str, path: Path, mark: Mark) -> object:
        if anchor not in self.anchors:
            self._flaw(mark, path, f"*{anchor} repeats what is not there", f"write &{anchor} before it, or use quotes")
            return None
        value, size = self.anchors[anchor]
        self._count(size, path, mark)
        return value

    def _build_list(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._build(event, (*path, len(items)), self._mark(event)))
        return items

    def _build_mapping(self, path: Path) -> dict[str, object]:
        items: dict[str, object] = {}
        merged: list[object] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            mark = self._mark(event)
            key = self._read_key(event, path, mark)
            inner = (*path, key)
            if key in items:
                first = self.marks[inner].line
                self._flaw(mark, inner, f"is written twice, first in line {first}", "remove one of the two")
            value = self._build(next(self.events), inner, mark)
            if key == "<<":
                merged.extend(value if isinstance(value, list) else [value])
            else:
                items.setdefault(key, value)
            if value is None:
                self.empty.append(inner)
        for other in merged:
            if isinstance(other, dict):
                items = other | items
        return items

    def _read_key(self, event: yaml.Event, path: Path, mark: Mark) -> str:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        message, remedy = "has a key that is not a text", "put values with braces or stars in quotes"
        self.flaws.append(Flaw(mark, path, message, remedy, (*path, "?")))
        self._build(event, (*path, "?"), mark)
        return "?"  # its text could be gigabytes, of a few aliases

    def _resolve(self, event: yaml.ScalarEvent, path: Path, mark: Mark) -> object:
        text = str(event.value)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._flaw(mark, path, f"has a tag ({event.tag})", "remove the tag")
        return resolve_plain(text) if event.implicit[0] else text


def resolve_plain(text: str) -> object:
    """The value of a scalar without quotes."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if len(text) <= 40 and _INTEGER.fullmatch(text):
        digits = text.lstrip("+-").replace("_", "")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        value = int(digits, 8) if octal else int(digits, 0)
        return -value if text.startswith("-") else value
    if len(text) <= 40 and _FLOAT.fullmatch(text):
        return float(text)
    return _SPECIAL.get(text.lower(), text)
