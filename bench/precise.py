"""Is a choice for each request better than the weights, and than a picker? Real Envoys before simulated nodes.

`make bench-precise` runs it, then what a choice costs. Each setting runs through the weights with a data plane beside
each Envoy (`precise`), the weights alone (`llm`), LEAST_REQUEST and, where Go can build it, the endpoint picker of the
Gateway API's inference extension with its scorers for queue and KV use, which llm-d's picker is made of. The picker has
one Envoy, ours as many as the setting says. The files are those of bench/fleets/precise, whose bounds are judged.

With one, two and four Envoys: `--envoys 1 2 4`; pieces: `--scenario sessions`; any fleet of yours: `--fleet FILE`; your
own requests: `--trace FILE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import uvloop

import balance
from cells import Open
from mechanisms import Gateway
from peers import has_picker, open_picker
from weighbridge_comparison.bounds import Result, judge
from weighbridge_comparison.cells import Cell
from weighbridge_comparison.files import FleetError
from weighbridge_comparison.options import add_flags
from weighbridge_comparison.results import keep
from weighbridge_comparison.setting import Setting
from weighbridge_comparison.tables import make_console, show_cells, show_results

FLEETS = balance.FLEETS / "precise"
LOAD = 0.8  # where no other is asked for and the file has it, else its first
SECONDS = 90.0
OURS = ("precise", "llm", "LEAST_REQUEST")


def read(options: argparse.Namespace) -> list[Setting]:
    """The settings that were asked for, of each file one load. FleetError says what is wrong with what was given."""
    options.short = False
    options.paths = options.paths or [FLEETS]
    options.seconds = options.seconds or SECONDS
    options.seeds = options.seeds or [1]
    settings = balance.read(options)
    if options.load is not None:
        return settings
    chosen: dict[str, Setting] = {}
    for setting in settings:
        if setting.load == LOAD or setting.name not in chosen:
            chosen[setting.name] = setting
    return list(chosen.values())


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
    balance.add_files(parser)
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
