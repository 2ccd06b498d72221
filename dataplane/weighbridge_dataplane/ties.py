"""Which of the candidates is named that nothing tells apart. Pure.

How fast a node reads is known from looks a quarter of a second apart, and of prompts that take some hundredths it is
not known well; nor is what a request fills. What is better by no more than that, and by no more than anybody feels, is
chance, and would get nearly all of what comes one by one, and be no better. So these are as good as equal: a session
stays where it was, the rest is drawn by room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weighbridge_dataplane.draws import draw_one
from weighbridge_dataplane.facts import Row
from weighbridge_dataplane.standing import Standing

FILL_DOUBT = 0.1  # of what the request itself adds to the square of the fill
FELT = 0.01  # seconds, as J counts: where prompts are long what is known least well is worth most


def pick(
    judged: Sequence[tuple[Standing, Row]],
    tokens: float,
    weight: float,
    last: str | None,
    random: Callable[[], float],
) -> Standing | None:
    """One of the least J for a prompt of so many tokens, which weighs as much as so many usual ones.

    None of them has read less of it than the least. None where nothing was judged. `last`: where its session was;
    `random` gives numbers from 0 to below 1.
    """
    if not judged:
        return None

    def doubt(standing: Standing, row: Row) -> float:
        return standing.doubt * (tokens - row[4]) + FILL_DOUBT * weight * standing.g * row[2]

    best, least = min(judged, key=lambda one: one[1][1])
    own = doubt(best, least)
    equal = [one for one, row in judged if row[4] >= least[4] and row[1] - least[1] <= min(FELT, own + doubt(one, row))]
    for standing in equal:
        if standing.member.address == last:
            return standing
    return draw_one(equal, random) if len(equal) > 1 else best
