"""`weighbridge bootstrap`: prints what an Envoy beside the operator is started with."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from weighbridge_api import flags
from weighbridge_operator.settings import GATEWAY
from weighbridge_operator.xds.bootstrap import CONNECTIONS, MEMORY, BootstrapSettings, Json, bootstrap
from weighbridge_operator.xds.bootstrap_tls import TlsFiles, print_sources
from weighbridge_operator.xds.overload import read_size


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(argv: Sequence[str]) -> int:
    """0, or 2 with one line on stderr where an argument won't do."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.tls_directory is not None and options.write is None:
        parser.error("--tls-directory needs --write: beside that file lie two more, which Envoy reads")
    try:
        memory = read_size(options.memory)
    except ValueError as error:
        parser.error(f"--memory: {error}")
    settings = BootstrapSettings(
        operator=options.operator,
        gateway=options.gateway,
        id=options.id or socket.gethostname(),
        admin_port=options.admin_port,
        stats=options.stats,
        connections=options.connections,
        memory=memory,
        tls=_tls(options),
        dataplanes=tuple(str(path.absolute()) for path in options.dataplane_socket),
    )
    try:
        config = bootstrap(settings)
    except ValueError as error:
        sys.stderr.write(f"weighbridge bootstrap: {error}\n")
        return 2
    if options.write is None:
        sys.stdout.write(_print(config, options.output))
        return 0
    files = {options.write: _print(config, options.output)}
    if settings.tls is not None:
        for name, source in print_sources(settings.tls).items():
            files[options.write.parent / name] = _print(source, "json")
    return _write(files)


def _tls(options: argparse.Namespace) -> TlsFiles | None:
    if options.tls_directory is None:
        return None
    return TlsFiles(str(options.tls_directory.absolute()), str(options.write.absolute().parent))


def _write(files: Mapping[Path, str]) -> int:
    for path, text in files.items():
        try:
            path.write_text(text)
        except OSError as error:
            sys.stderr.write(f"weighbridge bootstrap: cannot write {path}: {error.strerror}\n")
            return 2
    return 0


def _print(content: Json, form: str) -> str:
    return yaml.safe_dump(content, sort_keys=False) if form == "yaml" else json.dumps(content, indent=2) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="weighbridge bootstrap",
        description="Print Envoy's bootstrap configuration. Start Envoy with it and with --drain-time-s 90000 "
        "--drain-strategy immediate, so that a change of the listener cuts no stream.",
    )
    parser.add_argument("--operator", required=True, metavar="HOST:PORT", help="where `weighbridge operator` serves")
    parser.add_argument("--gateway", default=GATEWAY, metavar="NAME", help="the gateway it belongs to (%(default)s)")
    parser.add_argument("--id", metavar="ID", help="its name among the Envoys (this machine's name)")
    parser.add_argument(
        "--admin-port", type=flags.port, default=9901, metavar="N", help="its admin interface on loopback (%(default)s)"
    )
    parser.add_argument(
        "--stats",
        metavar="HOST:PORT",
        help="an address of its own where the operator, if it is on another machine, reads statistics",
    )
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, metavar="N", help="callers at once, at most (%(default)s)"
    )
    parser.add_argument(
        "--memory", default=MEMORY, metavar="SIZE", help="what it may take; before it does, it refuses (%(default)s)"
    )
    _add_beside(parser)
    parser.add_argument("--output", choices=("json", "yaml"), default="json", help="(%(default)s)")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write it there, where no shell redirects it")
    return parser


def _add_beside(parser: argparse.ArgumentParser) -> None:
    """Flags for what lies on the Envoy's own machine."""
    parser.add_argument(
        "--tls-directory",
        type=Path,
        metavar="DIR",
        help="where it has tls.crt, tls.key and ca.crt, to prove to the operator who it is; replaced while it runs",
    )
    parser.add_argument(
        "--dataplane-socket",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="the Unix socket of a `weighbridge dataplane` beside it, which policies with `precise` ask; one a process",
    )
