"""The rows of the live table: bars as wide as the screen allows, and each node's reason beside or below its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weighbridge_operator.views import words
from weighbridge_operator.views.groups import Group, Row
from weighbridge_operator.views.lines import Line, Look, Span, cells, fit, wrap_at_most

FIXED: Final = 51  # cells of all columns but the name, the bars and the reason, gaps included
BARS: Final = 3
LEAST_BAR, MOST_BAR = 3, 14
LEAST_NAME: Final = 8
BESIDE: Final = 150  # cells of width from which the reason stands beside the numbers
OLD: Final = 10.0  # seconds from which numbers are marked as old


@dataclass(frozen=True, slots=True)
class Meters:
    """The table's measures, for these groups on this screen. `reason` is 0 where reasons stand below."""

    groups: tuple[Group, ...]
    width: int
    name: int
    bar: int
    reason: int
    fine: bool

    def least_lines(self, reasons: int) -> int:
        """Lines that the table takes at least."""
        rows = sum(len(found.rows) for found in self.groups)
        return 3 * len(self.groups) + rows * (1 if self.reason or not reasons else 2)

    def head(self) -> Line:
        """The heading."""
        meter = self.bar + 1
        titles = (
            fit("  NODE", self.name + 2),
            fit("SCORE", meter + 3, right=True),
            "WEIGHT",
            fit("SHARE", meter + 4, right=True),
            "QUEUE",
            " RUN",
            fit("KV", meter + 4, right=True),
            "   AGE",
            *(("WHY",) if self.reason else ()),
        )
        return (Span("  ".join(titles), "head"),)

    def tell(self, row: Row, reasons: int, elapsed: float) -> list[Line]:
        """The row and its reason in up to `reasons` lines, `elapsed` seconds after the report."""
        line = self._numbers(row, elapsed)
        if not reasons and not self.reason:
            return [line]
        # The weight has a column.
        why = words.without_weight(words.reason_of(row.node, row.endpoint))
        look: Look = "dim" if words.state_of(row.node, row.endpoint).look == "good" else "warn"
        if not self.reason:
            return [line, *((Span(f"    {part}", look),) for part in wrap_at_most(why, self.width - 4, reasons))]
        parts = wrap_at_most(why, self.reason, max(1, reasons)) or ("",)
        indent = " " * (self.width - self.reason)
        return [(*line, Span(f"  {parts[0]}", look)), *((Span(indent + part, look),) for part in parts[1:])]

    def _numbers(self, row: Row, elapsed: float) -> Line:
        e, gap = row.endpoint, Span("  ")
        sign = words.state_of(row.node, e)
        start = (Span(f"{sign.text} ", sign.look), Span(fit(row.label, self.name), "bold"), gap)
        if e is None:
            return (*start, Span("not in service", "bad"))
        age = None if e.age is None else e.age + elapsed
        return (
            *start,
            self._meter(e.score, words.score(e.score), 3, words.look_of_score(e.score)),
            gap,
            Span(fit(str(e.weight), 6, right=True), "bold"),
            gap,
            self._meter(e.request_share, words.percent(e.request_share), 4, "plain"),
            gap,
            Span(fit(words.count(e.waiting), 5, right=True), "warn" if e.waiting else "plain"),
            gap,
            Span(fit(words.count(e.running), 4, right=True)),
            gap,
            self._meter(None if e.kv is None else 100 * e.kv, words.share(e.kv), 4, "plain"),
            gap,
            Span(fit(words.seconds(age), 6, right=True), "warn" if age is None or age > OLD else "plain"),
        )

    def _meter(self, value: float | None, number: str, digits: int, look: Look) -> Span:
        bar = words.bar(None if value is None else value / 100, self.bar, self.fine)
        return Span(f"{bar} {fit(number, digits, right=True)}", look)


def measure_meters(groups: Sequence[Group], width: int, fine: bool) -> Meters:
    """The measures that use `width` cells best."""
    widest = max((cells(row.label) for found in groups for row in found.rows), default=LEAST_NAME)
    room = width - FIXED - BARS * LEAST_BAR
    name = max(LEAST_NAME, min(widest, room if width < BESIDE else 32))
    if width >= BESIDE:
        bar = 8
        return Meters(tuple(groups), width, name, bar, width - FIXED - name - BARS * bar - 2, fine)
    bar = max(LEAST_BAR, min(MOST_BAR, (width - FIXED - name) // BARS))
    return Meters(tuple(groups), width, name, bar, 0, fine)
