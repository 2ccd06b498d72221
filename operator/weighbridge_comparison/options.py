"""The flags that say what is run, for virtual time and for real Envoys alike."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from weighbridge_api.faults import read_faults
from weighbridge_comparison.files import FleetError, read_arrivals, read_fleet
from weighbridge_comparison.fleet import EVERY, MECHANISMS, Fleet, Mechanism, Trace
from weighbridge_comparison.setting import Setting, list_settings


def add_flags(parser: argparse.ArgumentParser, *, mechanisms: bool = True) -> None:
    """What all commands take that run fleets; `mechanisms`: they can be chosen."""
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="replay this trace instead of the file's own traffic"
    )
    parser.add_argument(
        "--speed", type=float, metavar="X", help="so many times as fast; else as makes the file's loads"
    )
    parser.add_argument("--load", type=float, nargs="+", metavar="X", help="these loads instead of the file's")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="instead of the file's")
    parser.add_argument(
        "--envoys", type=int, nargs="+", metavar="N", help="so many Envoys before the fleet instead of the file's"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="of a run, instead of the file's duration")
    if mechanisms:
        ways = f"these of {', '.join(EVERY)}; default: all but the last two, which name a node for each request"
        parser.add_argument(
            "--mechanism", nargs="+", choices=EVERY, default=list(MECHANISMS), metavar="NAME", help=ways
        )
    parser.add_argument("--json", type=_new_file, metavar="FILE", help="raw results, every request")
    parser.add_argument("--plot", action="store_true", help="draw in the terminal, too; needs weighbridge[bench]")
    parser.add_argument(
        "--plots", type=_new_directory, metavar="DIR", help="a PNG for each fleet and load; needs weighbridge[bench]"
    )


def _new_file(text: str) -> Path:
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a directory; name a file")
    _new_directory(str(Path(text).parent))
    return Path(text)


def _new_directory(text: str) -> Path:
    """Said at once: what was measured for an hour is not lost because nothing can be written there."""
    path = Path(text)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f"nothing can be written in {there}; name a place where you may write")
    return path


def list_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and those of the directories. FleetError where there is none."""
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    if not files:
        raise FleetError(f"{', '.join(map(str, paths))}: holds no fleet; name a file, or a directory with *.yaml in it")
    return files


def read_settings(files: Sequence[Path], options: argparse.Namespace) -> list[Setting]:
    """Every setting of the files, with what the flags change. FleetError says what is wrong."""
    return [setting for file in files for setting in _read(file, options)]


def _read(file: Path, options: argparse.Namespace) -> list[Setting]:
    written, settings = read_fleet(file), list[Setting]()
    for envoys in options.envoys or (None,):
        fleet = _change(written, options, envoys)
        told = fleet.traffic.trace
        trace = read_arrivals(options.trace or file.parent / told.file) if told else ()
        many = "" if envoys is None else f", {envoys} Envoy{'s' if envoys > 1 else ''}"
        settings += list_settings(file.stem + many, fleet, trace)
    return settings


def _change(fleet: Fleet, options: argparse.Namespace, envoys: int | None) -> Fleet:
    traffic = fleet.traffic.model_dump()
    if options.load is not None:
        traffic |= {"loads": options.load, "rate": None}
    if options.trace is not None:
        traffic["trace"] = Trace(file=str(options.trace), speed=options.speed).model_dump()
        if options.speed is not None:
            traffic |= {"loads": (), "rate": None}
    elif options.speed is not None:
        raise FleetError("--speed needs --trace FILE")
    changed = fleet.model_dump() | {"traffic": traffic}
    if options.seeds is not None:
        changed["seeds"] = options.seeds
    if options.seconds is not None:
        changed["duration"] = options.seconds
    if envoys is not None:
        changed["envoys"] = envoys
    try:
        return Fleet.model_validate(changed, by_name=True)
    except ValidationError as error:
        faults = read_faults(error, Fleet)
        raise FleetError("\n".join(f"with these flags: {fault}" for fault in faults)) from None


def pick_mechanisms(options: argparse.Namespace) -> tuple[Mechanism, ...]:
    """Those that were asked for, in the order of the tables."""
    return tuple(mechanism for mechanism in EVERY if mechanism in options.mechanism)
