"""The console script `weighbridge`: finds the command, and only then imports what it needs.

So that no plane drags in the other, and that a command works where the packages of another are not installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import cast

USAGE_ERROR, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


@dataclass(frozen=True, slots=True)
class Command:
    """`module` has `main(argv)`, or `main(name, argv)` where it serves several commands."""

    name: str
    module: str
    meaning: str
    shared: bool = False


_OPERATOR = "weighbridge_operator.cli"
COMMANDS = (
    Command("up", _OPERATOR, "run a gateway on this machine from YAML files", shared=True),
    Command("demo", _OPERATOR, "run a gateway before three simulated nodes, with traffic", shared=True),
    Command("check", _OPERATOR, "say what is wrong with YAML files, before anything starts", shared=True),
    Command("status", _OPERATOR, "show nodes, weights and what each Envoy holds", shared=True),
    Command("explain", _OPERATOR, "say why a node has its weight, or why it got a request", shared=True),
    Command("operator", _OPERATOR, "run the control plane alone, with Envoy anywhere beside it", shared=True),
    Command("bootstrap", "weighbridge_operator.bootstrap_command", "print the configuration to start an Envoy with"),
    Command("dataplane", "weighbridge_dataplane.cli", "run the processor that Envoy may ask about requests"),
    Command("simulate", "weighbridge_simulator.cli", "run simulated model nodes"),
    Command("compare", "weighbridge_comparison.cli", "say what a fleet would gain, in virtual time, in seconds"),
    Command("crds", "weighbridge_api.crds_command", "print the CRDs for a Kubernetes cluster"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that is named first. The exit code: 2 where it is unknown or a package is missing."""
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help", "help"):
        return _print(_help())
    if name in ("-V", "--version"):
        return _print(f"weighbridge {version('weighbridge')}")
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        near = get_close_matches(name, [command.name for command in COMMANDS], n=1)
        remedy = f"did you mean {near[0]}?" if near else "weighbridge --help names them all"
        return _refuse(f"weighbridge: no command {name!r}; {remedy}")
    return _guard(command, rest)


def _guard(command: Command, argv: list[str]) -> int:
    try:
        return _run(command, argv)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package.startswith("weighbridge"):
            raise
        return _refuse(f"weighbridge {command.name} needs the package {package}: pip install 'weighbridge[standalone]'")
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _leave_pipe()


def _run(command: Command, argv: list[str]) -> int:
    # We start processes but never fork with gRPC running; its fork handlers only log that they are skipped.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    run = import_module(command.module).main
    if command.shared:
        code = cast(Callable[[str, list[str]], int], run)(command.name, argv)
    else:
        code = cast(Callable[[list[str]], int], run)(argv)
    sys.stdout.flush()
    return code


def _help() -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.meaning}" for command in COMMANDS]
    head = "usage: weighbridge COMMAND [OPTION...]\n\nAn AI gateway that sends each request where there is room.\n"
    return "\n".join([head, *lines, "", "weighbridge COMMAND --help tells more of one."])


def _print(text: str) -> int:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return _leave_pipe()
    return 0


def _refuse(line: str) -> int:
    sys.stderr.write(line + "\n")
    return USAGE_ERROR


def _leave_pipe() -> int:
    # The interpreter flushes once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


if __name__ == "__main__":
    sys.exit(main())
