"""One picture of the live table: a Report, hints and log lines in exactly the cells that the screen has.

What matters most keeps its place when room is short: first the log shrinks, then the reasons, then the hints; then the
nodes that serve well are counted instead of shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weighbridge_operator.report import EnvoyReport, ObjectReport, Report
from weighbridge_operator.views import words
from weighbridge_operator.views.groups import NODE, group, title
from weighbridge_operator.views.lines import Line, Look, Span, cells, clean, clip, wrap_at_most
from weighbridge_operator.views.meters import Meters, measure_meters

#: Lines of reason for each node and lines of log: what is tried, from roomy to cramped.
PLANS: Final = ((3, 6), (2, 6), (2, 4), (2, 2), (2, 1), (1, 4), (1, 3), (1, 2), (1, 1), (1, 0), (0, 1), (0, 0))
STARTING: Final = 5.0  # seconds that an Envoy may take to come
SHARE: Final = 8  # refusals, problems and conditions take at most this part of the screen, each
QUIET: Final = "waiting for the first report"


@dataclass(frozen=True, slots=True)
class Screen:
    """What there is to draw on; `fine` where it has more characters than ASCII."""

    width: int
    height: int
    fine: bool = True


def draw(
    report: Report | None, screen: Screen, hints: Sequence[str] = (), log: Sequence[str] = (), elapsed: float = 0.0
) -> list[Line]:
    """The whole picture, at most `height` lines; `elapsed` seconds have passed since the report."""
    if report is None:
        top: list[Line] = [(Span("weighbridge", "bold"), Span(f"  {QUIET}", "dim"))]
        body: list[Line] = []
        foot = _foot(hints, log, 6, screen.width)
    else:
        top = [*_head(report, elapsed), *_faults(report, screen)]
        body, foot = _choose(report, screen, len(top), hints, log, elapsed)
    gap: list[Line] = [()] * max(0, screen.height - len(top) - len(body) - len(foot))
    return [clip(line, screen.width) for line in (*top, *body, *gap, *foot)][: screen.height]


def _choose(
    report: Report, screen: Screen, top: int, hints: Sequence[str], log: Sequence[str], elapsed: float
) -> tuple[list[Line], list[Line]]:
    """The table and what stands below it."""
    meters = measure_meters(group(report), screen.width, screen.fine)
    for reasons, logged in PLANS:
        foot = _foot(hints, log, logged, screen.width)
        room = screen.height - top - len(foot)
        if meters.least_lines(reasons) > room:
            continue
        body = _body(meters, reasons, elapsed)
        if len(body) <= room:
            return body, foot
    foot = _foot(hints, (), 0, screen.width)
    if screen.height - top - len(foot) < screen.height // 3:
        foot = []
    return _worst(meters, screen.height - top - len(foot), elapsed), foot


def _body(meters: Meters, reasons: int, elapsed: float) -> list[Line]:
    lines: list[Line] = []
    for found in meters.groups:
        lines += [(), title(found), *((meters.head(),) if found.pool else ())]
        for row in found.rows:
            lines += meters.tell(row, reasons, elapsed)
    return lines or [(), (Span("no ModelNode yet", "warn"),)]


def _worst(meters: Meters, room: int, elapsed: float) -> list[Line]:
    """As many nodes as there is room for, those with trouble first."""
    rows = [row for found in meters.groups for row in found.rows]
    order = {words.BAD: 0, words.WARN: 1, words.GOOD: 2}
    rows.sort(key=lambda row: order[words.state_of(row.node, row.endpoint).text])
    shown = rows[: room - 2] if len(rows) <= room - 2 else rows[: max(0, room - 3)]
    lines: list[Line] = [(), meters.head(), *(line for row in shown for line in meters.tell(row, 0, elapsed))]
    if len(shown) == len(rows):
        return lines
    return [*lines, (Span(f"… and {len(rows) - len(shown)} more; `weighbridge status` shows all", "dim"),)]


def _head(report: Report, elapsed: float) -> list[Line]:
    what = f"configuration {words.version(report.version)}" if report.version else "no configuration yet"
    rest = f"  {what} · up {words.seconds(report.uptime + elapsed)}"
    first = (Span("weighbridge ", "bold"), Span(clean(report.entrance), "head"), Span(rest))
    return [first, _envoys(report.envoys, report.uptime + elapsed)]


def _envoys(envoys: Sequence[EnvoyReport], uptime: float) -> Line:
    total = len(envoys)
    if not total and uptime < STARTING:
        return (Span(f"{words.WARN} no Envoy is connected yet", "warn"),)
    if not total:
        return (Span(f"{words.BAD} no Envoy is connected", "bad"),)
    refused = sum(any(k.rejected for k in e.kinds) for e in envoys)
    current = sum(e.current for e in envoys)
    some = "Envoy" if total == 1 else f"{total} Envoys"
    if refused:
        return (Span(f"{words.BAD} {some}: {refused} of {total} REFUSES a part of the configuration", "bad"),)
    if current < total:
        return (Span(f"{words.WARN} {some}: {current} of {total} runs all that was offered", "warn"),)
    verb = "runs" if total == 1 else "run"
    build = ", ".join(sorted({clean(e.build) for e in envoys}))
    return (Span(words.GOOD, "good"), Span(f" {some} {build} {verb} all that was offered"))


def _faults(report: Report, screen: Screen) -> list[Line]:
    refusals = [
        f"Envoy {e.id} refuses {k.kind} {words.refused(k)}: {k.error or 'without a word'}"
        for e in report.envoys
        for k in e.kinds
        if k.rejected
    ]
    states = [text for found in report.objects for text in _states(found)]
    return [
        *_some(refusals, screen, "bad", words.BAD),
        *_some(report.problems, screen, "bad", words.BAD),
        *_some(words.notices(report), screen, "warn", words.WARN),
        *_some(states, screen, "warn", words.WARN),
    ]


def _states(found: ObjectReport) -> list[str]:
    """Conditions that its row does not tell."""
    if found.kind == NODE and not found.endpoints:
        return []
    silent = {"Ready"} if found.kind != NODE else {"Ready", "MetricsFresh", "Programmed"}
    faults = [c for c in found.conditions if c.status == "False" and c.type not in silent]
    return [f"{found.kind} {found.namespace}/{found.name}: {c.reason}: {c.message or c.type}" for c in faults]


def _some(texts: Sequence[str], screen: Screen, look: Look, sign: str) -> list[Line]:
    """Each text in up to three lines, all in their share of the screen; what does not fit is counted."""
    most = max(2, screen.height // SHARE)
    lines: list[Line] = []
    for index, text in enumerate(texts):
        parts = wrap_at_most(clean(text), screen.width - 2, 3)
        if index and len(lines) + len(parts) > most - (index < len(texts) - 1):
            rest = f"  … and {len(texts) - index} more; `weighbridge status` shows all"
            return [*lines, (Span(rest, look),)]
        lines += [(Span(f"{' ' if n else sign} {part}", look),) for n, part in enumerate(parts)]
    return lines


def _foot(hints: Sequence[str], log: Sequence[str], most: int, width: int) -> list[Line]:
    lines: list[Line] = []
    recent = log[-most:] if most else ()
    if recent:
        lines += [(), (Span("─── log " + "─" * max(0, width - 8), "dim"),)]
        lines += [(Span(clean(text), "dim"),) for text in recent]
    if hints:
        lines.append((Span("─" * width, "dim"),))
        for hint in hints:
            lines += [(Span(part),) for part in _break(hint, width)]
    return lines


def _break(hint: str, width: int) -> tuple[str, ...]:
    """A hint keeps its spaces, which may be code, and is broken only where it is too wide."""
    line = "".join(c for c in hint.rstrip() if c.isprintable())
    indent = " " * min(width // 2, len(line) - len(line.lstrip()) + 2)
    lines: list[str] = []
    while cells(line) > width:
        head = line[: width + 1].rstrip()
        cut = head.rfind(" ", len(indent) + 1) if len(head) > width or line[len(head) :] else len(head)
        cut = cut if len(indent) < cut <= width else width
        lines.append(line[:cut].rstrip())
        line = indent + line[cut:].lstrip()
    return (*lines, line)
