"""Which bounds of a fleet file hold, and the tolerance that keeps chance from failing it.

With three seeds or more a bound on a ratio is missed when every seed misses it, or when the median of the seeds' ratios
does by more than 5 % (10 % from a load of 0.95 on). With fewer there is no such median: where ours and the other's are
alike noise gets room, and so does `classic` among equal nodes, whose score strays for seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from weighbridge_comparison.cells import Cell, p50, p99, tell_ratio, tell_time
from weighbridge_comparison.fleet import Bound
from weighbridge_comparison.setting import Setting

SEEDS = 3
NOISE = 1.4  # two p99 of 1,700 requests each differ by this, by chance alone
_STRAYING = {"classic": 4}  # changes
Found = Mapping[str, Sequence[Cell]]  # the cells of one setting by mechanism


@dataclass(frozen=True, slots=True)
class Result:
    """One bound, and what was found."""

    setting: str
    promise: str
    what: str
    found: str
    holds: bool


def judge(setting: Setting, cells: Sequence[Cell]) -> list[Result]:
    """Every bound of the setting, of the mechanisms that were run."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if (cell.setting, cell.load) == (setting.name, setting.load):
            found.setdefault(cell.mechanism, []).append(cell)
    bounds = [b for b in setting.fleet.bounds if not b.loads or setting.load in b.loads]
    return [result for bound in bounds for result in _judge(setting, bound, found)]


def _judge(setting: Setting, bound: Bound, found: Found) -> Iterator[Result]:
    for profile in bound.profiles:
        own = found.get(profile)
        if not own:
            continue
        if bound.at_most is not None:
            for other in bound.of:
                if other in found:
                    yield _compare(setting, bound, (profile, own), (other, found[other]))
        yield from _judge_alone(setting, bound, profile, own)
        if bound.pushes is not None:
            most = bound.pushes * max(1.0, setting.fleet.duration / 400)
            most += 0 if len(own) >= SEEDS else _STRAYING.get(profile, 0)
            pushes = median(cell.pushes for cell in own)
            what = f"{profile} changes weights at most {most:g} times"
            yield _say(setting, bound, what, f"{pushes:g}", pushes <= most)
        if bound.answered is not None:
            answered = min(cell.answered for cell in own)
            what = f"{profile} answers {'every request' if bound.answered == 1 else f'{bound.answered:.2%}'}"
            yield _say(setting, bound, what, f"{answered:.2%}", answered >= bound.answered)
        if bound.told_by is not None:
            moments = [cell.told for cell in own if cell.told is not None]
            held = len(moments) == len(own) and max(moments) <= bound.told_by
            what = f"{profile} names the wrong capacity within {bound.told_by:g} s"
            yield _say(setting, bound, what, f"after {max(moments):.0f} s" if moments else "never", held)


def _judge_alone(setting: Setting, bound: Bound, profile: str, own: Sequence[Cell]) -> Iterator[Result]:
    """What is bounded as it is, whatever others reach; seconds to the hundredth, as they are stated and told."""
    for name, most, seconds in (("p50", bound.p50, p50(own)), ("p99", bound.p99, p99(own))):
        if most is not None:
            what = f"{name} of {profile} at most {most:g} s"
            yield _say(setting, bound, what, f"{tell_time(seconds)} s", round(seconds, 2) <= most)
    if bound.cached is not None:
        cached = min(cell.cached for cell in own)
        what = f"{profile} need not read {bound.cached:.0%} of the prompts' tokens"
        yield _say(setting, bound, what, f"{cached:.1%}", cached >= bound.cached)


def _compare(
    setting: Setting, bound: Bound, ours: tuple[str, Sequence[Cell]], theirs: tuple[str, Sequence[Cell]]
) -> Result:
    assert bound.at_most is not None
    (profile, own), (other, others) = ours, theirs
    by_seed = {cell.seed: cell.p99 for cell in others}
    pairs = sorted(((c.p99, by_seed[c.seed]) for c in own if c.seed in by_seed), key=lambda pair: pair[0] / pair[1])
    ratios = [mine / theirs for mine, theirs in pairs]
    tolerance = 1.1 if (setting.load or 0.0) >= 0.95 else 1.05
    room = ""
    if len(ratios) < SEEDS:
        noise = NOISE if bound.at_most > 1 else 1.0
        holds = median(ratios) <= bound.at_most * noise
        room = f", {NOISE:g} times that for noise" if noise > 1 else ""
    else:
        holds = min(ratios) <= bound.at_most and median(ratios) <= bound.at_most * tolerance
    what = f"p99 of {profile} at most {bound.at_most:g} of {other}'s{room}"
    told = ", ".join(tell_ratio(mine, theirs) for mine, theirs in pairs)
    found = f"{tell_time(p99(own))} against {tell_time(p99(others))} s; by seed {told}"
    return _say(setting, bound, what, found, holds)


def _say(setting: Setting, bound: Bound, what: str, found: str, holds: bool) -> Result:
    return Result(setting.title, bound.promise, what, found, holds)
