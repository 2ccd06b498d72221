"""`weighbridge check -f DIR`: says what is wrong with the files before anything starts.

One line for each problem: file, line and column, object, field, what is wrong, what to change. It takes the flags of
`up` that say what is in the files; what may be right elsewhere, as a host that only another DNS knows, is a warning.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from weighbridge_api import flags
from weighbridge_operator.core.doors import DoorNames
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.examination import examine
from weighbridge_operator.prometheus_flags import add_prometheus, read_prometheus
from weighbridge_operator.security_flags import add_doors
from weighbridge_operator.sources.addresses import look_up_now
from weighbridge_operator.sources.files import Loaded, load
from weighbridge_operator.sources.objects import Problem


def main(argv: Sequence[str]) -> int:
    """0 where nothing is wrong but for warnings, 1 where something is, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="weighbridge check", description="Say what is wrong with YAML files.")
    add_objects(parser)
    add_doors(parser)
    add_entrance(parser)
    add_prometheus(parser)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args(argv)
    loaded = load(arguments.paths)
    scope = Scope(arguments.namespace, entrance=(arguments.host, arguments.port))
    names = DoorNames(arguments.namespace, arguments.entrance_tls_secret, arguments.keys_secret)
    whole = examine(loaded, scope, names, look_up_now, time.time())
    found = (*loaded.problems, *whole, *_judge_prometheus(arguments), *_miss_objects(loaded, arguments.paths))
    problems = sorted(found, key=lambda each: (each.file, each.line, each.column, str(each)))
    if arguments.output == "json":
        print_json(loaded, problems, sys.stdout)
    else:
        print_text(loaded, problems, sys.stdout)
    return 0 if all(problem.local for problem in problems) else 1


def _judge_prometheus(arguments: argparse.Namespace) -> Iterator[Problem]:
    try:
        read_prometheus(arguments)
    except (ValueError, OSError) as error:
        yield Problem("", 0, 0, None, "", str(error), "")


def _miss_objects(loaded: Loaded, paths: Sequence[Path]) -> Iterator[Problem]:
    """Where there is none at all, which kubectl refuses, too; a file without any among others it passes over."""
    if not (loaded.objects or loaded.problems):
        message = f"no object is in {', '.join(str(path) for path in paths)}"
        remedy = "write a ModelNode into a file that ends with .yaml, .yml or .json"
        yield Problem("", 0, 0, None, "", message, remedy)


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


def add_entrance(parser: argparse.ArgumentParser) -> None:
    """The flags that say where callers come in."""
    parser.add_argument("--host", default="127.0.0.1", help="address of the entrance (default: 127.0.0.1)")
    parser.add_argument("--port", type=flags.port, default=8080, help="port of the entrance (default: 8080)")


def print_text(loaded: Loaded, problems: Sequence[Problem], out: TextIO) -> None:
    """One line for each problem and one for the whole; in colour on a terminal."""
    colour = out.isatty()
    for problem in problems:
        line = _line(problem)
        out.write(f"{_paint(problem, line) if colour else line}\n")
    for name in loaded.blank:
        out.write(f"{name}: note: holds no object, and is passed over\n")
    warnings = sum(problem.local for problem in problems)
    counts = _count(len(problems) - warnings, "problem"), _count(warnings, "warning") if warnings else ""
    out.write(f"{_count_objects(loaded)}; {', '.join(filter(None, counts))}\n")


def print_json(loaded: Loaded, problems: Sequence[Problem], out: TextIO) -> None:
    """`{"valid": ..., "objects": [...], "problems": [...], "blank": [...]}`, never a secret's value."""
    report = {
        "valid": all(problem.local for problem in problems),
        "objects": [{"kind": ref.kind, "namespace": ref.namespace, "name": ref.name} for ref in loaded.objects],
        "problems": [asdict(problem) | {"text": _line(problem)} for problem in problems],
        "blank": list(loaded.blank),
    }
    out.write(json.dumps(report, indent=2) + "\n")


def _line(problem: Problem) -> str:
    """As it prints, and whether it is a warning behind the place, as compilers say it."""
    line = str(problem)
    if not problem.local:
        return line
    place = f"{problem.file}:{problem.line}:{problem.column}: "
    return f"{place}warning: {line.removeprefix(place)}"


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
