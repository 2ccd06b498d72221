"""The operator's commands: reads flags and the environment once, puts everything together, and passes it down.

Environment: WEIGHBRIDGE_URL (status, explain), WEIGHBRIDGE_DATAPLANE_URL (explain), WEIGHBRIDGE_ENVOY (the binary),
NO_COLOR, TERM, XDG_STATE_HOME; in a cluster what `cluster_flags` names.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, get_args

from weighbridge_api.flags import address, number
from weighbridge_api.wire import KEPT_MOST, TOLD_MOST
from weighbridge_operator import check, choices, client
from weighbridge_operator.cluster_flags import add_cluster, add_proxy, read_cluster
from weighbridge_operator.demo import run_demo
from weighbridge_operator.envoy_process import EnvoyNotFoundError
from weighbridge_operator.keeping import collect_seldom
from weighbridge_operator.prometheus_flags import add_prometheus, read_prometheus
from weighbridge_operator.request_log_flags import add_request_log, read_request_log
from weighbridge_operator.security_flags import add_doors, add_xds, read_security
from weighbridge_operator.settings import Output, Settings
from weighbridge_operator.standalone import run_operator, run_up
from weighbridge_operator.xds.bootstrap import MEMORY, read_address
from weighbridge_operator.xds.overload import LEAST, read_size

URL = "http://127.0.0.1:8081"


def main(command: str, argv: list[str]) -> int:
    """Runs `up`, `demo`, `operator`, `check`, `status` or `explain`; 2 where it could not start."""
    match command:
        case "check":
            return check.main(argv)
        case "status" | "explain":
            return _ask(command, argv)
        case "up" | "demo" | "operator":
            return _serve(command, argv)
        case _:
            raise ValueError(command)


def _ask(command: str, argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"weighbridge {command}")
    parser.add_argument("--url", default=os.environ.get("WEIGHBRIDGE_URL", URL), help="the operator's admin interface")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    add_proxy(parser)
    if command == "explain":
        parser.add_argument("node", nargs="?", help="default: every node")
        choices.add_choices(parser, os.environ.get("WEIGHBRIDGE_DATAPLANE_URL"))
    options = parser.parse_args(argv)
    paper = client.choose_paper(sys.stdout, colour="NO_COLOR" not in os.environ)
    place = _find_place(options)
    if command == "status":
        return client.status(place, options.output, paper)
    if choices.check_flags(parser, options):
        places = choices.find_places(options, place)
        return choices.explain_choices(places, options.request, options.choices or TOLD_MOST, options.output, paper)
    return client.explain(place, options.node, options.output, paper)


def _find_place(options: argparse.Namespace) -> client.Place:
    if not options.kubernetes:
        return client.over_http(options.url)
    # The package kubernetes is there only where it is needed.
    from weighbridge_operator.cluster_client import over_cluster  # noqa: PLC0415

    return over_cluster(options.namespace, options.service, options.context)


def _serve(command: str, argv: Sequence[str]) -> int:
    options = _parser(command).parse_args(argv)
    logging.basicConfig(level=logging.WARNING, handlers=[])
    for name in ("weighbridge", "envoy"):
        logging.getLogger(name).setLevel(options.log_level.upper())
    try:
        return _run(_start(command, _read_settings(command, options), options))
    except (EnvoyNotFoundError, OSError, ValueError) as error:
        print(f"weighbridge {command}: {error}", file=sys.stderr)
        return 2


def _start(command: str, settings: Settings, options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    match command:
        case "up":
            return run_up(settings)
        case "demo":
            return run_demo(settings, options.parent_pid, precise=options.precise)
        case _:
            return run_operator(settings)


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"weighbridge {command}")
    add = parser.add_argument
    if command == "operator":
        _add_source(parser)
        add_cluster(parser)
        add_xds(parser)
    elif command == "up":
        check.add_objects(parser)
    if command == "demo":
        told = "name a node for each request; `weighbridge explain --choices 5` says why it was that one"
        add("--precise", action="store_true", help=told)
        add("--parent-pid", type=int, metavar="PID", help="of the process that started this one: end when it is gone")
    else:
        add_doors(parser)
        add_prometheus(parser)
        add_request_log(parser)
        add("--state", type=Path, help="file that remembers the weights over a restart (default: by the paths)")
        add("--no-debug-headers", action="store_true", help="answers do not tell which node and policy served them")
    check.add_entrance(parser)
    add(
        "--admin",
        default="127.0.0.1:8081",
        metavar="HOST:PORT",
        help="status, metrics and health (default: %(default)s)",
    )
    if command == "operator":
        add("--xds", default="127.0.0.1:18000", metavar="HOST:PORT", help="where Envoys ask (default: %(default)s)")
    else:
        add("--concurrency", type=int, default=min(2, os.cpu_count() or 1), help="Envoy's worker threads")
        told = "what Envoy may take; before it does, it refuses requests (default: %(default)s)"
        add("--envoy-memory", default=MEMORY, metavar="SIZE", help=told)
        told = "how many of the last choices `explain --request` finds, of policies with balance.precise (20000)"
        add("--keep-choices", type=number(1, KEPT_MOST), metavar="N", help=told)
        told = "where the data plane serves /metrics and /healthz, once a policy with balance.precise asks for one"
        add("--dataplane-metrics", type=address, metavar="ADDRESS:PORT", help=told)
    add("--output", choices=get_args(Output), default="auto", help="a live table on a terminal, else lines of change")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    check.add_paths(source, required=False)
    source.add_argument("--kubernetes", action="store_true", help="read objects from the cluster, not from files")
    told = "of the objects to serve (default: default); with --kubernetes the gateway's own (default: $POD_NAMESPACE)"
    parser.add_argument("--namespace", help=told)


def _read_settings(command: str, options: argparse.Namespace) -> Settings:
    paths: Sequence[Path] = getattr(options, "paths", None) or ()
    cluster = read_cluster(options, os.environ) if command == "operator" else None
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(f"there is no {', '.join(missing)}")
    return Settings(
        paths=paths,
        entrance=(options.host, options.port),
        admin=read_address(options.admin),
        xds=read_address(options.xds) if command == "operator" else ("127.0.0.1", 0),
        namespace=cluster.namespace if cluster else getattr(options, "namespace", None) or "default",
        state=getattr(options, "state", None) or (_state_file(paths) if paths else None),
        debug_headers=not getattr(options, "no_debug_headers", False),
        concurrency=getattr(options, "concurrency", 1),
        envoy=os.environ.get("WEIGHBRIDGE_ENVOY"),
        envoy_memory=_read_memory(options.envoy_memory) if command != "operator" else None,
        output=options.output,
        live=sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb"),
        colour="NO_COLOR" not in os.environ,
        kubernetes=cluster,
        security=read_security(options),
        prometheus=read_prometheus(options),
        requests=read_request_log(options),
        kept_choices=getattr(options, "keep_choices", None),
        dataplane_metrics=getattr(options, "dataplane_metrics", None),
    )


def _read_memory(text: str) -> int:
    size = read_size(text)
    if size < LEAST:
        raise ValueError(f"--envoy-memory: must be at least {LEAST >> 20}Mi")
    return size


def _state_file(paths: Sequence[Path]) -> Path:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    digest = hashlib.sha256("\n".join(str(path.resolve()) for path in paths).encode()).hexdigest()[:16]
    return home / "weighbridge" / f"{digest}.json"


def _run(work: Coroutine[Any, Any, int]) -> int:
    collect_seldom()
    try:
        import uvloop  # noqa: PLC0415  the loop of choice where it is installed
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
