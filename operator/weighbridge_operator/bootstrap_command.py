"""`weighbridge bootstrap`: prints what an Envoy beside the operator is started with."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from weighbridge_operator.settings import GATEWAY
from weighbridge_operator.xds.bootstrap import CONNECTIONS, BootstrapSettings, bootstrap


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(argv: Sequence[str]) -> int:
    """0, or 2 with one line on stderr where an argument won't do."""
    options = _parser().parse_args(argv)
    settings = BootstrapSettings(
        operator=options.operator,
        gateway=options.gateway,
        id=options.id or socket.gethostname(),
        admin_port=options.admin_port,
        stats=options.stats,
        connections=options.connections,
    )
    try:
        config = bootstrap(settings)
    except ValueError as error:
        sys.stderr.write(f"weighbridge bootstrap: {error}\n")
        return 2
    text = yaml.safe_dump(config, sort_keys=False) if options.output == "yaml" else json.dumps(config, indent=2) + "\n"
    if options.write is None:
        sys.stdout.write(text)
        return 0
    try:
        options.write.write_text(text)
    except OSError as error:
        sys.stderr.write(f"weighbridge bootstrap: cannot write {options.write}: {error.strerror}\n")
        return 2
    return 0


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
        "--admin-port", type=int, default=9901, metavar="N", help="its admin interface on loopback (%(default)s)"
    )
    parser.add_argument(
        "--stats",
        metavar="HOST:PORT",
        help="an address of its own where the operator, if it is on another machine, reads statistics",
    )
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, metavar="N", help="callers at once, at most (%(default)s)"
    )
    parser.add_argument("--output", choices=("json", "yaml"), default="json", help="(%(default)s)")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write it there, where no shell redirects it")
    return parser
