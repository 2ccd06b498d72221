"""Is a choice for each request better than the weights, and than a picker? Real Envoys before simulated nodes.

`make bench-precise` runs it, then what a choice costs. Each setting runs through the weights with a data plane beside
each Envoy (`precise`), the weights alone (`llm`), LEAST_REQUEST and, where Go can build it, the endpoint picker of the
Gateway API's inference extension with its scorers for queue and KV use, which llm-d's picker is made of. The picker has
one Envoy, ours as many as the setting says. The bounds of the files that concern these are judged.

Pieces: `--scenario sessions --envoys 1 4`; any fleet of yours: `--fleet FILE`; your own requests: `--trace FILE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop

import balance
from cells import Open
from mechanisms import Gateway
from peers import has_picker, open_picker
from weighbridge_comparison.bounds import Result, judge
from weighbridge_comparison.cells import Cell
from weighbridge_comparison.files import FleetError
from weighbridge_comparison.options import add_flags, read_settings
from weighbridge_comparison.results import keep
from weighbridge_comparison.setting import Setting
from weighbridge_comparison.tables import make_console, show_cells, show_results

#: File and load, where none are named; with one, two and four Envoys those that differ by it.
SETTINGS = {
    "uneven": 0.8,
    "uneven-one-slow": 0.8,
    "others": 0.8,
    "uniform": 0.8,
    "few-large": 0.74,
    "unequal-kv-prefill": 0.8,
    "uneven-idle": 0.75,
    "uneven-half": 0.75,
    "uneven-old": 0.75,
    "sessions": 0.8,
}
BY_ENVOYS = ("uneven", "sessions")
SECONDS = 90.0
OURS = ("precise", "llm", "LEAST_REQUEST")


def read(options: argparse.Namespace) -> list[Setting]:
    """The settings that were asked for. FleetError says what is wrong with what was given."""
    options.short = False
    options.seconds = options.seconds or SECONDS
    options.seeds = options.seeds or [1]
    if options.paths or options.scenario:
        return balance.read(options)
    settings: list[Setting] = []
    for name, load in SETTINGS.items():
        envoys = options.envoys or ([1, 2, 4] if name in BY_ENVOYS else None)
        given = argparse.Namespace(**vars(options) | {"load": options.load or [load], "envoys": envoys})
        settings += read_settings([balance.FLEETS / f"{name}.yaml"], given)
    return settings


def judge_choice(setting: Setting, cells: Sequence[Cell]) -> list[Result]:
    """Its bounds that concern the choice for each request."""
    concern = tuple(bound for bound in setting.fleet.bounds if "precise" in bound.profiles)
    return judge(replace(setting, fleet=setting.fleet.model_copy(update={"bounds": concern})), cells)


async def run(settings: Sequence[Setting]) -> tuple[list[Cell], list[Result]]:
    """Every setting, one after the other, and whether what is promised holds."""
    gateways: dict[str, Open] = {name: partial(Gateway, name) for name in OURS}
    if await has_picker(None):
        gateways["picker"] = open_picker
    cells = await balance.measure(settings, gateways, most=0.0)
    console = make_console()
    for setting in settings:
        show_cells(console, setting, cells)
    results = [result for setting in settings for result in judge_choice(setting, cells)]
    show_results(console, results)
    return cells, results


def main() -> int:
    """0 if every bound holds, 1 if not, 2 where something given is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-f", "--fleet", dest="paths", type=Path, action="append", metavar="FILE", help="fleet files")
    parser.add_argument("--scenario", action="append", metavar="TEXT", help="files of bench/fleets, by name")
    add_flags(parser, mechanisms=False)
    options = parser.parse_args()
    try:
        settings = read(options)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    cells, results = uvloop.run(run(settings))
    return keep(settings, cells, options) or int(not all(result.holds for result in results))


if __name__ == "__main__":
    sys.exit(main())
