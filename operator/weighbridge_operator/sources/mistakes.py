"""What libyaml finds wrong with a text, in words that say what to change.

libyaml speaks of tokens and indicators; the person who wrote the file sees a tab, a missing quote, a key out of line.
"""

from __future__ import annotations

import re

import yaml

_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: Part of libyaml's problem or context, our words, the remedy, and whether the mistake is where the context began.
_WORDS = (
    ("quoted scalar", "a quoted text is not closed", "add the closing quote", True),
    ("anchor", "an & or * is not followed by a name", "put the value in quotes", False),
    ("nesting depth", "is nested too deeply", "flatten it", False),
    (
        "mapping values are not allowed",
        "a `:` is not expected here",
        "check the indentation, or put the value in quotes",
        False,
    ),
    ("sequence entries are not allowed", "a list cannot start here", "start it on the next line, indented", False),
    ("flow node", "a [ or { is not closed", "close it with ] or }", False),
    ("flow mapping", "a { is not closed", "close it with }", True),
    ("flow sequence", "a [ is not closed", "close it with ]", True),
    ("block scalar", "text stands behind a | or >", "start the text on the next line", False),
    ("expected key", "does not line up with the keys before it", "indent it as they are", False),
    ("'-' indicator", "does not line up with the list before it", "start it with - or correct the indentation", False),
    ("could not find expected ':'", "a key has no `:`", "write it as `key: value`", True),
    ("document start", "this is not the start of an object", "start it with --- and remove any % line", False),
)


def find_binary(text: str) -> int | None:
    """Position of the first character that no YAML text may hold."""
    found = _NOT_TEXT.search(text)
    return found.start() if found else None


def explain(error: yaml.YAMLError, text: str) -> tuple[int, int, str, str]:
    """Line and column (from 0), message and remedy. `text` is what libyaml read."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return 0, 0, "is not YAML", "check quotes and indentation"
    mark = error.problem_mark
    lines = text.splitlines()
    if mark.line >= len(lines):
        mark = error.context_mark or mark
    line = lines[mark.line] if mark.line < len(lines) else ""
    character = line[mark.column : mark.column + 1]
    said = f"{error.context or ''} {error.problem or ''}"
    if character == "\t" or "tab character" in said:
        return mark.line, mark.column, "a tab is used for indentation", "use spaces"
    if "cannot start any token" in said:
        return mark.line, mark.column, f"a value cannot start with {character}", "put it in quotes"
    for part, message, remedy, at_start in _WORDS:
        if part in said:
            place = error.context_mark if at_start and error.context_mark else mark
            return place.line, place.column, message, remedy
    return mark.line, mark.column, f"is not YAML ({error.problem})", "check quotes and indentation"
