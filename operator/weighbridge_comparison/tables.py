"""What came out, as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from weighbridge_comparison.bounds import Result
from weighbridge_comparison.cells import GIVEN_UP, Cell, is_open, list_mechanisms, middle, p50, p99, tell_time
from weighbridge_comparison.fleet import OURS
from weighbridge_comparison.setting import Setting, strengths

_MOST = 60  # lines
LATE = 0.05  # seconds by which a load generator may be late before its figures are doubted

#: Columns that only some settings have: for which cells there is one, and what it says of those of a mechanism.
_ALSO: Mapping[str, tuple[Callable[[Cell], bool], Callable[[Sequence[Cell]], str]]] = {
    "cached": (lambda cell: cell.cached > 0, lambda cells: f"{middle(cells).cached:.1%}"),
    "overdue": (lambda cell: cell.overdue is not None, lambda cells: _tell_most(cell.overdue for cell in cells)),
}


def _tell_most(counts: Iterable[int | None]) -> str:
    """Of the seeds the worst, which the one in the middle would hide."""
    known = [count for count in counts if count is not None]
    return f"{max(known)}" if known else ""


def make_console() -> Console:
    """As wide as the terminal, or 130 columns where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=130)


def show_cells(console: Console, setting: Setting, cells: Sequence[Cell]) -> None:
    """Prints a table of this setting: a row for each mechanism, medians over its seeds."""
    own = [cell for cell in cells if (cell.setting, cell.load) == (setting.name, setting.load)]
    seeds = len({cell.seed for cell in own})
    title = f"{setting.title}: {setting.rate:.1f} requests a second, {'median of ' if seeds > 1 else ''}{seeds} seed"
    table = Table(title=title + "s" * (seeds > 1), title_justify="left")
    table.add_column("")
    sizes = ":".join(f"{strength:.2g}" for strength in strengths(setting.fleet))
    also = [name for name, (there, _) in _ALSO.items() if any(there(cell) for cell in own)]
    for heading in ("requests", "p50 s", "p99 s", "answered", *also, "changes"):
        table.add_column(heading, justify="right")
    table.add_column(f"share of each node, % ({sizes})", justify="right")
    best = min((p99([c for c in own if c.mechanism == m]) for m in {c.mechanism for c in own}), default=0.0)
    for mechanism in list_mechanisms(own):
        _add(table, mechanism, [cell for cell in own if cell.mechanism == mechanism], best, also)
    console.print(table)
    late = max((cell.late for cell in own), default=0.0)
    if late > LATE:
        console.print(f"  the machine was too slow: requests left up to {late:.2f} s late (p99); doubt these figures")


def _add(table: Table, mechanism: str, cells: Sequence[Cell], best: float, also: Sequence[str]) -> None:
    shown = middle(cells)
    found = p99(cells)
    table.add_row(
        f"ours: {mechanism}" if mechanism in OURS else mechanism,
        f"{shown.requests}",
        tell_time(p50(cells)),
        tell_time(found),
        f"{min(cell.answered for cell in cells):.2%}",
        *(_ALSO[heading][1](cells) for heading in also),
        f"{shown.pushes}",
        " ".join(f"{share * 100:4.1f}" for share in shown.shares.values()),
        style="bold" if found == best else "",
    )


def show_results(console: Console, results: Sequence[Result]) -> None:
    """Prints what was promised and what came out; where that is long, what is missed and how much holds."""
    missed = [result for result in results if not result.holds]
    if len(results) > _MOST:
        console.print(f"{len(results) - len(missed)} of {len(results)} bounds hold")
    for result in missed if len(results) > _MOST else results:
        word = "[green]holds [/]" if result.holds else "[red]MISSED[/]"
        console.print(f"{word}  {result.setting}: {result.promise}: {result.what} ({result.found})")


def show_gain(console: Console, setting: Setting, cells: Sequence[Cell]) -> None:
    """Prints in a sentence what the best of ours gains, beside each that is not ours."""
    own = [cell for cell in cells if (cell.setting, cell.load) == (setting.name, setting.load)]
    found = {m: p99([c for c in own if c.mechanism == m]) for m in dict.fromkeys(c.mechanism for c in own)}
    mechanisms = (*OURS, "precise")
    ours = {m: seconds for m, seconds in found.items() if m in mechanisms}
    if not ours or len(ours) == len(found):
        return
    mine = min(ours, key=lambda m: ours[m])
    said = "; ".join(_beside(ours[mine], seconds, m) for m, seconds in found.items() if m not in mechanisms)
    within = f"do not all come within {GIVEN_UP:g} s" if is_open(ours[mine]) else f"come within {ours[mine]:.2f} s"
    console.print(f"{setting.title}: with {mine} 99 of 100 first tokens {within}; {said}")


def _beside(mine: float, other: float, name: str) -> str:
    """A time that is a bound alone makes a ratio that is one, too."""
    if is_open(mine) and is_open(other):
        return f"beside {name} there is no telling: neither answers 99 of 100 in {GIVEN_UP:g} s"
    more = "more than " if is_open(mine) or is_open(other) else ""
    ratio = other / max(mine, 1e-9)
    if ratio >= 1.05 or (more and ratio > 1):
        return f"{more}{ratio:.3g} times faster than {name}"
    return f"as fast as {name}" if ratio > 1 / 1.05 and not more else f"{more}{1 / ratio:.3g} times slower than {name}"
