"""Is a choice for each request better than the weights, and than a picker? Real Envoys before simulated nodes.

`make bench-precise` runs it, then what a choice costs. Each setting runs through the weights with a data plane beside
each Envoy (`precise`), the weights alone (`llm`), LEAST_REQUEST and, where Go can build it, the endpoint picker of the
Gateway API's inference extension with its scorers for queue, KV use and prefix, by the weights of llm-d. The picker has
one Envoy, ours as many as the setting says. The files are those of bench/fleets/precise, whose bounds are judged.

With one, two and four Envoys: `--envoys 1 2 4`; pieces: `--scenario sessions`; any fleet of yours: `--fleet FILE`; your
own requests: `--trace FILE`; to go on later where it was cut off: `--journal FILE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import balance
import selection
from cells import Open
from journal import Journal, JournalError
from mechanisms import Gateway
from peers import has_picker, open_picker
from weighbridge_comparison.files import FleetError
from weighbridge_comparison.options import add_flags
from weighbridge_comparison.results import keep
from weighbridge_comparison.setting import Setting
from weighbridge_simulator.traffic import Question

FLEETS = selection.FLEETS / "precise"
# Requests a second over all gateways at once, and how many of them cost as much as an Envoy with its data plane and the
# machines around it without any. Two cores are busy to two thirds: a choice has 20 ms.
MOST, IDLE = 800.0, 15.0
ASKED = Question(spelled=True)  # bodies are as long as prompts, as anybody's are: the choice goes by it
OURS = ("precise", "llm", "LEAST_REQUEST")


def read(options: argparse.Namespace) -> list[Setting]:
    """The settings that were asked for, of each file one load. FleetError says what is wrong with what was given."""
    options.paths = options.paths or [FLEETS]
    return selection.read_brief(options)


def concern_choice(setting: Setting) -> Setting:
    """With those of its bounds alone that the choice for each request is held to."""
    concern = tuple(bound for bound in setting.fleet.bounds if "precise" in bound.profiles)
    return replace(setting, fleet=setting.fleet.model_copy(update={"bounds": concern}))


async def run(settings: Sequence[Setting], files: Sequence[Setting], journal: Journal) -> balance.Found:
    """Every setting, and whether what is promised holds; what does not is run as it is among `files`."""
    gateways: dict[str, Open] = {name: partial(Gateway, name) for name in OURS}
    if await has_picker(None):
        gateways["picker"] = open_picker
    concerned, whole = ([concern_choice(setting) for setting in some] for some in (settings, files))
    return await balance.run(concerned, gateways, balance.How(MOST, IDLE, ASKED, journal), whole)


def main() -> int:
    """0 if every bound holds, 1 if not, 2 where something given is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    selection.add_flags(parser)
    add_flags(parser, mechanisms=False)
    options = parser.parse_args()
    try:
        settings, journal = read(options), Journal(options.journal)
    except (FleetError, JournalError) as error:
        print(error, file=sys.stderr)
        return 2
    found = balance.carry_out(run(settings, selection.read_missed(options), journal))
    return keep(found.settings, found.cells, options) or int(not found.holds)


if __name__ == "__main__":
    sys.exit(main())
