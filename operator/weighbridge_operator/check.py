"""`weighbridge check -f DIR`: says what is wrong with the files before anything starts.

One line for each problem: file, line and column, object, field, what is wrong, what to change. What only the whole set
can tell (a secret that is missing, a model that nobody serves) comes from `find`, which the command line passes in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from weighbridge_operator.sources.files import Loaded, load
from weighbridge_operator.sources.objects import Problem
from weighbridge_operator.state import DesiredState, Ref

#: What is wrong with valid objects that do not fit together, for a gateway of this namespace.
Find = Callable[[DesiredState, str], Sequence[tuple[Ref, str]]]


def main(argv: Sequence[str], find: Find | None = None) -> int:
    """0 where everything is valid, 1 where something is not, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="weighbridge check", description="Say what is wrong with YAML files.")
    add_objects(parser)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args(argv)
    loaded = load(arguments.paths)
    problems = (*loaded.problems, *find_problems(loaded, find, arguments.namespace))
    if arguments.output == "json":
        print_json(loaded, problems, sys.stdout)
    else:
        print_text(loaded, problems, sys.stdout)
    return 1 if problems else 0


def add_objects(parser: argparse.ArgumentParser) -> None:
    """The flags that say where the objects are: of every command that reads them from files alone."""
    add_paths(parser, required=True)
    parser.add_argument("--namespace", default="default", help="of the objects to serve (default: %(default)s)")


def add_paths(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """The flag that says which files are read."""
    told = "file or directory; may be given again"
    parser.add_argument(
        "-f", "--file", dest="paths", metavar="PATH", type=Path, action="append", required=required, help=told
    )


def find_problems(loaded: Loaded, find: Find | None, namespace: str) -> tuple[Problem, ...]:
    """What `find` says of the valid objects, as problems of the files that they stand in."""
    found = find(loaded.desired, namespace) if find else ()
    return tuple(_place(loaded, ref, message) for ref, message in found)


def print_text(loaded: Loaded, problems: Sequence[Problem], out: TextIO) -> None:
    """One line for each problem and one for the whole; in colour on a terminal."""
    colour = out.isatty()
    for problem in problems:
        line = str(problem)
        out.write(f"{_paint(problem, line) if colour else line}\n")
    out.write(f"{_count_objects(loaded)}; {_count(len(problems), 'problem')}\n")


def print_json(loaded: Loaded, problems: Sequence[Problem], out: TextIO) -> None:
    """`{"valid": ..., "objects": [...], "problems": [...]}`, never a secret's value."""
    report = {
        "valid": not problems,
        "objects": [{"kind": ref.kind, "namespace": ref.namespace, "name": ref.name} for ref in loaded.objects],
        "problems": [asdict(problem) | {"text": str(problem)} for problem in problems],
    }
    out.write(json.dumps(report, indent=2) + "\n")


def _place(loaded: Loaded, ref: Ref, message: str) -> Problem:
    held = loaded.objects.get(ref)
    file, line = (held.file, held.line) if held else ("", 0)
    return Problem(file, line, 1, f"{ref.kind} {ref.name}", "", message, "")


def _paint(problem: Problem, line: str) -> str:
    """The place in bold, the remedy in green."""
    start = len(problem.file)
    remedy = len(" ".join(problem.remedy.split()))
    end = len(line) - remedy
    return f"\x1b[1m{line[:start]}\x1b[0m{line[start:end]}\x1b[32m{line[end:]}\x1b[0m"


def _count_objects(loaded: Loaded) -> str:
    kinds = [ref.kind for ref in loaded.objects]
    counts = ((kinds.count(kind), kind) for kind in ("ModelNode", "RoutePolicy", "Secret"))
    return ", ".join(f"{number} {kind}" for number, kind in counts if number) or "no valid object"


def _count(number: int, word: str) -> str:
    return f"no {word}" if number == 0 else f"{number} {word}" + ("s" if number > 1 else "")
