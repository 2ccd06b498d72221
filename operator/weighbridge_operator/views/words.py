"""Numbers and states in words, with the digits that mean something. What is not known is "-", never 0."""

from __future__ import annotations

import re
from typing import Final, Literal, assert_never

from weighbridge_metrics.sample import SCRAPE
from weighbridge_operator.core.explain import number
from weighbridge_operator.report import EndpointReport, KindReport, ObjectReport, Report, SignalReport
from weighbridge_operator.views.lines import Look, Span, clean

UNKNOWN: Final = "-"
GOOD, WARN, BAD = "✓", "?", "✗"
SHORT: Final = 12  # characters of a version
NAMES: Final = 64  # characters of the names of what is refused

_WEIGHT = re.compile(r"\bweight \d+(?: of \d+: |, )")
_EIGHTHS = " ▏▎▍▌▋▊▉"
_PLAIN = str.maketrans({"✓": "+", "✗": "x", "█": "#", "…": "~", "─": "-", "→": ">", "×": "x", "·": "|", "│": "|"})


def count(value: float | None) -> str:
    """How many: 0, 7, 1,850; averages keep a digit."""
    return UNKNOWN if value is None else number(round(value, 1))


def score(value: float | None) -> str:
    """0..100 without digits that nobody acts on."""
    return UNKNOWN if value is None else f"{value:.0f}"


def percent(value: float | None) -> str:
    """Of hundred: 0 %, 0.4 %, 33 %."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}%" if 0 < value < 0.95 else f"{value:.0f}%"


def share(value: float | None) -> str:
    """Of one, in percent."""
    return percent(None if value is None else 100 * value)


def seconds(value: float | None) -> str:
    """How long: 0.4 s, 12 s, 3 min, 2 h, 5 d."""
    if value is None:
        return UNKNOWN
    if value < 9.95:
        return f"{value:.1f} s"
    for limit, divisor, unit in ((99.5, 1, "s"), (5970, 60, "min"), (172800, 3600, "h")):
        if value < limit:
            return f"{value / divisor:.0f} {unit}"
    return f"{value / 86400:.0f} d"


def version(text: str | None) -> str:
    """A version short enough to compare by eye."""
    return UNKNOWN if text is None else clean(text)[:SHORT]


def notices(report: Report) -> tuple[str, ...]:
    """What may yet surprise, a line each: a Prometheus that gives nothing, too, for nodes with pages do without it."""
    silent = (each for each in report.prometheus if each.error is not None)
    told = (f"Prometheus {each.name} {each.error}: nothing is read from it (--prometheus)" for each in silent)
    return (*report.remarks.notices, *told)


def refused(kind: KindReport) -> str:
    """The names of what an Envoy refuses of a kind, in one short text."""
    names = clean(kind.rejected or "")
    return names if len(names) <= NAMES else f"{names[: NAMES - 1]}…"


def bar(part: float | None, width: int, fine: bool = True) -> str:
    """0..1 as a bar of `width` cells, empty where unknown; `fine` uses eighths of a cell."""
    if part is None:
        return " " * width
    eighths = round(min(1.0, max(0.0, part)) * width * 8)
    if eighths == 0 and part > 0:
        eighths = 1
    full, rest = divmod(eighths, 8)
    if not fine:
        return ("█" * (full + (rest >= 4))).ljust(width)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def to_plain(text: str) -> str:
    """The same signs in ASCII, for a terminal that has no others; other characters become "?"."""
    whole = text.translate(_PLAIN)
    return whole if whole.isascii() else "".join(c if c.isascii() else _block(c) for c in whole)


def state_of(node: ObjectReport, endpoint: EndpointReport | None) -> Span:
    """The node's sign: ✓ serves with known numbers, ? serves or may, but something is not known, ✗ does not serve."""
    if endpoint is None or endpoint.healthy is False or not accepted(node):
        return Span(BAD, "bad")
    if endpoint.age is None or endpoint.score is None or not node.ready:
        return Span(WARN, "warn")
    return Span(GOOD, "good")


def accepted(node: ObjectReport) -> bool:
    """Whether the object's present form is valid."""
    return all(c.status != "False" for c in node.conditions if c.type == "Accepted")


def ready(node: ObjectReport) -> Span:
    """Yes, no with the reason, or unknown."""
    condition = next((c for c in node.conditions if c.type == "Ready"), None)
    if condition is None:
        return Span(UNKNOWN, "warn")
    match condition.status:
        case "True":
            return Span("yes", "good")
        case "False":
            return Span(f"no: {clean(condition.reason)}", "bad")
        case _:
            return Span(f"unknown: {clean(condition.reason)}", "warn")


def look_of_score(value: float | None) -> Look:
    """Low is good."""
    if value is None:
        return "dim"
    return "good" if value < 50 else "warn" if value < 80 else "bad"


def reason_of(node: ObjectReport, endpoint: EndpointReport | None) -> str:
    """Why the node has its weight, or none."""
    if endpoint is None:
        faults = [f"{c.reason}: {c.message}" for c in node.conditions if c.status != "True" and c.message]
        return clean(faults[0] if faults else "it is in no pool: no policy or model leads to it")
    held = "" if accepted(node) else "its present form is invalid, the last valid one serves; "
    return clean(f"{held}{_outage(endpoint)}")


def _outage(endpoint: EndpointReport) -> str:
    """The reason, after what matters more where it is out of service."""
    if endpoint.healthy is not False:
        return endpoint.reason
    since = "" if endpoint.down is None else f" for {seconds(endpoint.down)}"
    error = f": {endpoint.error}" if endpoint.error else ""
    rest = endpoint.reason.replace(f" ({endpoint.error})", "")
    return f"out of service{since} (ejected, or its health check fails){error}; {rest}"


def without_weight(reason: str) -> str:
    """The reason without the weight that it starts with, for where the weight stands beside it."""
    return _WEIGHT.sub("", reason)


def measured(part: SignalReport) -> str:
    """The signal as measured, with what counts as full where it follows: 5 of 10, 35 %, 1.2 s."""
    match part.signal:
        case "queue" | "running":
            return f"{count(part.value)}{_of(part)}"
        case "latency":
            whole = part.value / part.share if 0 < part.share < 1 else None
            return f"{seconds(part.value)}{f' of {seconds(whole)}' if whole else ''}"
        case _:
            return share(part.value)


def arithmetic(part: SignalReport) -> str:
    """One signal's part of the score: queue 5 of 10 → 0.5 × 40 = 20.0."""
    weight = weight_of(part)
    product = f" × {weight:.3g}" if weight is not None else ""
    origin = tell_origin(part)
    told = f"{part.signal} {measured(part)} → {part.share:.2g}{product} = {part.points:.1f}"
    return f"{told} ({origin})" if origin else told


def tell_origin(part: SignalReport) -> str:
    """Where it was read, and how old it is."""
    if part.source is None or part.age is None:
        return ""
    place = "its own page" if part.source == SCRAPE else clean(part.source)
    return f"{place}, {seconds(part.age)} ago"


def weight_of(part: SignalReport) -> float | None:
    """The points that a full signal gives. An older operator does not say it; then a signal at zero does not tell."""
    if part.full is not None:
        return part.full
    return part.points / part.share if part.share > 0 else None


def kind_state(kind: KindReport) -> Literal["accepted", "refused", "pending"]:
    """Whether the Envoy runs what it was offered, refused it, or has not answered."""
    if kind.rejected is not None:
        return "refused"
    return "accepted" if kind.accepted == kind.offered else "pending"


def is_accepted(kind: KindReport) -> bool:
    """Whether the Envoy runs what it was offered."""
    return kind_state(kind) == "accepted"


def tell_kind(kind: KindReport) -> str:
    """One kind of resource in words, without Envoy's."""
    state = kind_state(kind)
    runs = f"runs {version(kind.accepted)}" if kind.accepted else "runs none"
    match state:
        case "accepted":
            return f"{version(kind.accepted)} accepted"
        case "refused":
            return f"{refused(kind)} REFUSED, {runs}"
        case "pending":
            return f"{version(kind.offered)} offered, not answered yet, {runs}"
        case _:
            assert_never(state)


def _of(part: SignalReport) -> str:
    return f" of {count(part.value / part.share)}" if 0 < part.share < 1 else ""


def _block(character: str) -> str:
    return "#" if character in _EIGHTHS[4:] else " " if character in _EIGHTHS else "?"
