"""What of the fleet files is run on real Envoys, and for how long.

Whole, every load and seed for the seconds that its file says, takes half a day. Unless that is asked for, each file is
run at the one of its loads that is nearest to a busy hour's, with its first seed, for as long as each of its events is
seen and p99 is more than chance. That is less than what the files' bounds are stated for: the start of a fleet is a
larger part of it, and one seed is one. So what misses a bound then is run as its file says.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from weighbridge_comparison.files import FleetError
from weighbridge_comparison.options import list_files, read_settings
from weighbridge_comparison.setting import Setting

FLEETS = Path(__file__).parent / "fleets"
MOST = 500.0  # requests a second over all gateways at once, which two cores carry
LOAD = 0.8
LEAST, STEP = 100.0, 50.0  # seconds of a brief run, and what it is rounded up to: equal ones can run at once
REQUESTS = 2_000  # that are counted
SEEN = 60.0  # seconds after an event began, or after counting began
BURSTS = 2
#: File and load of the short form: what is decided in a minute, and so far from its bounds that hardly any seed misses.
SHORT = {"uneven": 0.8, "uneven-others": 0.8, "uniform": 0.8, "uneven-idle": 0.8}
SHORT_SECONDS, SHORT_COUNT = 70.0, 10.0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which fleets are run."""
    told = "fleet file or directory, instead of this project's; may be given again"
    parser.add_argument("-f", "--fleet", dest="paths", type=Path, action="append", metavar="FILE", help=told)
    parser.add_argument(
        "--scenario", action="append", metavar="TEXT", help="only this file, or those whose name contains it"
    )
    told = "keep what is measured here as it goes, and do not run again what it holds; one for each version of the code"
    parser.add_argument("--journal", type=Path, metavar="FILE", help=told)


def read(options: argparse.Namespace) -> list[Setting]:
    """The settings that were asked for, as the files and flags say. FleetError says what is wrong with them."""
    return [
        setting for file in _choose(options, options.paths or [FLEETS]) for setting in read_settings([file], options)
    ]


def read_short(options: argparse.Namespace) -> list[Setting]:
    """The settings of the short form."""
    options.seconds = options.seconds or SHORT_SECONDS
    options.seeds = options.seeds or [1]
    settings: list[Setting] = []
    for file in _choose(options, [FLEETS / f"{name}.yaml" for name in SHORT]):
        options.load = [SHORT[file.stem]]
        settings += [_count_early(setting) for setting in read_settings([file], options)]
    return settings


def read_brief(options: argparse.Namespace) -> list[Setting]:
    """One setting of each file; what flags say of loads, seeds and seconds is done."""
    settings = read(options)
    if options.load is None:
        settings = pick_load(settings)
    if options.seeds is None:
        settings = [_change(setting, seeds=setting.fleet.seeds[:1]) for setting in settings]
    if options.seconds is None:
        settings = [_change(setting, duration=see_enough(setting)) for setting in settings]
    return settings


def read_missed(options: argparse.Namespace) -> list[Setting]:
    """How what missed a bound in a brief run is run anew: as its file says. None where flags say how long, or how."""
    return [] if options.seconds is not None or options.seeds is not None else read(options)


def pick_load(settings: Sequence[Setting]) -> list[Setting]:
    """Of each name the setting whose load is nearest to a busy hour's."""
    nearest: dict[str, Setting] = {}
    for setting in settings:
        known = nearest.get(setting.name)
        if known is None or abs((setting.load or 0.0) - LOAD) < abs((known.load or 0.0) - LOAD) - 1e-9:
            nearest[setting.name] = setting
    return list(nearest.values())


def see_enough(setting: Setting) -> float:
    """Seconds, no more than the file's."""
    fleet = setting.fleet
    begins = max(fleet.count_from, *(event.at for event in fleet.events), *(node.joins for node in fleet.servers))
    enough = max(LEAST, begins + SEEN, fleet.count_from + REQUESTS / setting.rate)
    if (burst := fleet.traffic.burst) is not None:
        enough = max(enough, BURSTS * burst.every)
    return min(fleet.duration, STEP * math.ceil(enough / STEP))


def reseed(setting: Setting, seeds: Sequence[int]) -> Setting:
    """The same with other seeds."""
    return _change(setting, seeds=tuple(seeds))


def _choose(options: argparse.Namespace, paths: Sequence[Path]) -> list[Path]:
    files = list_files(paths)
    if not options.scenario:
        return files
    known = [file.stem for file in files]
    chosen = [file for file in files if any(_means(text, file.stem, known) for text in options.scenario)]
    if not chosen:
        raise FleetError(f"there is no such scenario; there are {', '.join(known)}")
    return chosen


def _means(text: str, name: str, known: Sequence[str]) -> bool:
    """Whether the text names this file: as a whole, or, if it is no file's name, as a part."""
    return text == name if text in known else text in name


def _count_early(setting: Setting) -> Setting:
    earlier = max(SHORT_COUNT, *(event.at + 30 for event in setting.fleet.events if "flood" in event.does), 0)
    return _change(setting, count_from=earlier)


def _change(setting: Setting, **fields: object) -> Setting:
    return replace(setting, fleet=setting.fleet.model_copy(update=fields))
