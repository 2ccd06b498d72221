"""Lines for a terminal: spans of text with a look, laid out by the cells that they take on the screen.

Text comes from files, engines and Envoys, so that control characters never pass: they could move the cursor or lie.
A look is never the only carrier of a meaning; without colours the words and signs say the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Look = Literal["plain", "bold", "dim", "good", "warn", "bad", "head"]

#: Select Graphic Rendition codes (ECMA-48).
CODES: Final = MappingProxyType({"bold": "1", "dim": "2", "good": "32", "warn": "33", "bad": "1;31", "head": "1;36"})

_CONTROL = re.compile(
    r" *(?:\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069])+ *"
)


@dataclass(frozen=True, slots=True)
class Span:
    text: str
    look: Look = "plain"


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; `least` cells are kept for it, `most` are not exceeded (0: as wide as its cells)."""

    title: str
    right: bool = False
    most: int = 0
    least: int = 0


def clean(text: str) -> str:
    """The text on one line: control characters, escapes, line ends and changes of direction become a space."""
    return _CONTROL.sub(" ", text).strip()


def cells(text: str) -> int:
    """How many cells of the screen the text takes."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def fit(text: str, width: int, right: bool = False) -> str:
    """The text in exactly `width` cells: padded, or cut with an ellipsis."""
    taken = cells(text)
    if taken > width:
        text = _cut(text, width - 1) + "…" if width > 0 else ""
        taken = cells(text)
    pad = " " * (width - taken)
    return pad + text if right else text + pad


def cut(text: str, width: int | None) -> str:
    """The text in at most `width` cells; None leaves it whole."""
    return text if width is None or cells(text) <= width else fit(text, width)


def wrap(text: str, width: int) -> tuple[str, ...]:
    """The text broken between words into lines of at most `width` cells; words longer than a line are broken too."""
    lines, line = [], ""
    for word in text.split():
        rest = word
        if line and cells(line) + 1 + cells(rest) <= width:
            line = f"{line} {rest}"
            continue
        if line:
            lines.append(line)
        while cells(rest) > max(2, width):
            head = _cut(rest, max(2, width))
            lines.append(head)
            rest = rest[len(head) :]
        line = rest
    return (*lines, line) if line else tuple(lines)


def wrap_at_most(text: str, width: int, most: int) -> tuple[str, ...]:
    """As wrap, but what exceeds `most` lines ends in an ellipsis."""
    lines = wrap(text, width)
    if len(lines) <= most:
        return lines
    return (*lines[: most - 1], fit(" ".join(lines[most - 1 :]), width)) if most > 0 else ()


def tabulate(columns: Sequence[Column], rows: Sequence[Sequence[Span]], indent: int = 0, gap: int = 2) -> list[Line]:
    """A heading and a line for each row, each column as wide as its widest cell within its bounds."""
    widths = [measure(column, [row[i].text for row in rows]) for i, column in enumerate(columns)]
    head = tuple(Span(column.title, "head") for column in columns)
    return [_row(columns, widths, row, indent, gap) for row in (head, *rows)]


def measure(column: Column, texts: Iterable[str]) -> int:
    """The column's width in cells."""
    widest = max((cells(text) for text in (column.title, *texts)), default=0)
    return max(column.least, min(widest, column.most) if column.most else widest)


def width_of(line: Line) -> int:
    """Cells that the line takes."""
    return sum(cells(span.text) for span in line)


def clip(line: Line, width: int) -> Line:
    """The line in at most `width` cells."""
    result: list[Span] = []
    for span in line:
        room = width - width_of(tuple(result))
        if cells(span.text) > room:
            return (*result, Span(fit(span.text, room), span.look))
        result.append(span)
    return tuple(result)


def paint(line: Line, colour: bool) -> str:
    """The line as text, with colours or without."""
    if not colour:
        return "".join(span.text for span in line).rstrip()
    return "".join(_paint(span) for span in line).rstrip()


def _paint(span: Span) -> str:
    code = CODES.get(span.look)
    return f"\x1b[{code}m{span.text}\x1b[0m" if code and span.text.strip() else span.text


def _row(columns: Sequence[Column], widths: Sequence[int], row: Sequence[Span], indent: int, gap: int) -> Line:
    spans = [Span(" " * indent)] if indent else []
    for i, (column, width, cell) in enumerate(zip(columns, widths, row, strict=True)):
        if i:
            spans.append(Span(" " * gap))
        spans.append(Span(fit(cell.text, width, column.right), cell.look))
    return tuple(spans)


def _cut(text: str, width: int) -> str:
    taken = 0
    for index, character in enumerate(text):
        taken += _cell(character)
        if taken > width:
            return text[:index]
    return text


def _cell(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
