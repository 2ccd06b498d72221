"""`weighbridge explain --request ID`, and `--choices N`: asks data planes and prints why they named a node, or none.

Each data plane knows the choices for its own Envoy. Under `up` the operator passes the question on; in a cluster each
is asked at an address of its own, and the answer says which of them it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import TypeAdapter

from weighbridge_api.flags import number
from weighbridge_api.wire import TOLD_MOST
from weighbridge_operator.client import Asked, NoAnswerError, Paper, Place, choose_paper, over_http
from weighbridge_operator.views.choices import Told, tell_absence, tell_choices
from weighbridge_operator.views.lines import clean

DATAPLANE: Final = Asked("data plane", "--dataplane-url or WEIGHBRIDGE_DATAPLANE_URL", "is it started with --listen? ")
ID: Final = 256  # characters of a request's id

Output = Literal["text", "json"]


def add_choices(parser: argparse.ArgumentParser, urls: str | None) -> None:
    """The flags of `explain`; `urls` is what the environment says of data planes, separated by commas."""
    add = parser.add_argument_group("of the choice of a node for each request (balance.precise)").add_argument
    add("--request", metavar="ID", type=_read_id, help="the request whose answer had this x-request-id")
    add("--choices", metavar="N", type=number(1, TOLD_MOST), help="the last N choices, the newest first")
    add(
        "--dataplane-url",
        metavar="URL",
        action="append",
        help="where a data plane is asked (its --listen; in a cluster what `kubectl port-forward` opens); given again "
        "for each. Default: WEIGHBRIDGE_DATAPLANE_URL, else the one that `weighbridge up` runs",
    )
    parser.set_defaults(known_urls=[url for url in (urls or "").split(",") if url])


def find_places(options: argparse.Namespace, operator: Place) -> list[Place]:
    """Those that are asked of choices."""
    urls = options.dataplane_url or options.known_urls
    return [over_http(url, DATAPLANE) for url in urls] or [operator]


def check_flags(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """Whether choices are asked for. Ends the program where the flags contradict each other."""
    given = [options.request is not None, options.choices is not None, options.node is not None]
    if sum(given) > 1:
        parser.error("give one of NODE, --request and --choices")
    if options.dataplane_url and not any(given[:2]):
        parser.error("--dataplane-url means something only with --request or --choices")
    return any(given[:2])


def _read_id(text: str) -> str:
    if not 0 < len(text) <= ID or not text.isprintable():
        raise argparse.ArgumentTypeError(f"give an answer's x-request-id, of at most {ID} characters")
    return text


def explain_choices(
    places: Sequence[Place], request: str | None, last: int, output: Output, paper: Paper | None = None
) -> int:
    """Prints the choice for a request, or the last ones; 0, or 1 where none of the places tells of any."""
    path = f"/choices?last={last}" + (f"&id={quote(request, safe='')}" if request is not None else "")
    paper = paper or choose_paper(sys.stdout)
    told: list[tuple[str, Told, Any]] = []
    for place in places:
        try:
            body = place.fetch(path)
            told.append((place.name, _TOLD.validate_json(body), json.loads(body)))
        except NoAnswerError as error:
            sys.stderr.write(f"weighbridge: {error}\n")
        except ValueError:
            sys.stderr.write(f"weighbridge: {clean(place.name)} answers, but is no data plane of this version\n")
    found = [(name, each) for name, each, _ in told if each.choices]
    if output == "json":
        answers = [{"from": name, **raw} for name, _, raw in told]
        paper.write(json.dumps({"answers": answers}, indent=2, ensure_ascii=False) + "\n")
    else:
        paper.print(tell_choices(found, paper.width))
    if told and not found:
        sys.stderr.write("".join(f"weighbridge: {line}\n" for line in tell_absence([t[:2] for t in told], request)))
    return 0 if found else 1


_TOLD: Final = TypeAdapter(Told)
