"""What came out of one run of one mechanism, whether of real Envoys or in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from weighbridge_comparison.fleet import EVERY, Fleet
from weighbridge_simulator.records import percentile

#: Seconds after which a request without a first token is given up: a wait of that length may have been any longer one.
GIVEN_UP = 60.0
Row = tuple[float, float, int]  # arrival, seconds to the first token, number of the node or -1


@dataclass(frozen=True, slots=True)
class Cell:
    """Times to the first token in seconds, of requests that were not answered the time-out; shares by node."""

    setting: str
    load: float | None
    mechanism: str
    seed: int
    requests: int
    p50: float
    p99: float
    answered: float
    shares: Mapping[str, float]
    pushes: int  # changes of weights after the first
    taken_back: float | None  # part of the changes that were reversed within 60 s; None where it was not looked at
    told: float | None  # when a wrong capacity was first named
    late: float  # p99 of the seconds by which the load generator itself was late
    cached: float = 0.0  # part of the prompts' tokens that need not be read anew
    overdue: int | None = None  # choices that came later than Envoy waits for them; None where nobody told
    rows: tuple[Row, ...] = ()

    @property
    def title(self) -> str:
        """As `Setting.title`."""
        return self.setting if self.load is None else f"{self.setting}, load {self.load:g}"


def make_cell(
    setting: tuple[str, float | None],
    mechanism: str,
    seed: int,
    fleet: Fleet,
    rows: Sequence[Row],
    failed: int,
    *,
    pushes: int,
    taken_back: float | None = None,
    told: float | None = None,
    late: float = 0.0,
    cached: float = 0.0,
    overdue: int | None = None,
) -> Cell:
    """A cell of these requests, of which those since `count_from` count; `failed` of them were not answered."""
    counted = [row for row in rows if row[0] >= fleet.count_from]
    waits = sorted(wait for _, wait, _ in counted)
    placed = [node for _, _, node in counted if node >= 0]
    return Cell(
        *setting,
        mechanism=mechanism,
        seed=seed,
        requests=len(counted),
        p50=percentile(waits, 0.5),
        p99=percentile(waits, 0.99),
        answered=1 - failed / max(1, len(counted)),
        shares={node.name: placed.count(i) / max(1, len(placed)) for i, node in enumerate(fleet.servers)},
        pushes=pushes,
        taken_back=taken_back,
        told=told,
        late=late,
        cached=cached,
        overdue=overdue,
        rows=tuple(rows),
    )


def middle(cells: Iterable[Cell]) -> Cell:
    """The cell of the seed whose p99 is the median."""
    ordered = sorted(cells, key=lambda cell: cell.p99)
    return ordered[len(ordered) // 2]


def p50(cells: Iterable[Cell]) -> float:
    return median(cell.p50 for cell in cells)


def p99(cells: Iterable[Cell]) -> float:
    return median(cell.p99 for cell in cells)


def is_open(seconds: float) -> bool:
    """Whether the time is a bound alone: requests that were given up are among those it stands for."""
    return seconds >= GIVEN_UP


def tell_time(seconds: float) -> str:
    """Seconds with two digits, or what they are more than."""
    return f">{GIVEN_UP:g}" if is_open(seconds) else f"{seconds:.2f}"


def tell_ratio(mine: float, other: float) -> str:
    """One time as a multiple of another, or the bound of it that is known."""
    if is_open(mine) and is_open(other):
        return "unknown"
    sign = ">" if is_open(mine) else "<" if is_open(other) else ""
    return f"{sign}{mine / max(other, 1e-9):.2f}"


def list_mechanisms(cells: Iterable[Cell]) -> list[str]:
    """Those of the cells in the order in which they are shown: what we know, then others as they come."""
    found = dict.fromkeys(cell.mechanism for cell in cells)
    return [name for name in EVERY if name in found] + [name for name in found if name not in EVERY]
