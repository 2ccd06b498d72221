"""What the law remembers of a pool between ticks: plain frozen values that survive a restart as JSON.

Times are those of the process's own clock; `dump` notes the moment, and `restore` moves every time to the new clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Final

VERSION: Final = 1
FARTHEST: Final = 64  # steps
RECALLED: Final = ""  # the profile of a memory that was put together from what is known of weights; fits any


@dataclass(frozen=True, slots=True)
class Step:
    """A whole number of steps on a logarithmic grid, and since when the input has been a full step beyond it."""

    value: int = 0
    toward: int = 0  # -1 or 1 while the input is beyond it on that side
    since: float = 0.0

    def settle(self, x: float, now: float, down: float, up: float) -> Step:
        """Move to the step nearest to `x` once it has been a full step beyond for `down` or `up` seconds."""
        if abs(x - self.value) < 1:
            return Step(self.value)
        toward = 1 if x > self.value else -1
        if toward != self.toward:
            return Step(self.value, toward, now)
        return Step(nearest(x)) if now - self.since >= (up if toward > 0 else down) else self


def nearest(x: float) -> int:
    """The nearest whole number, halves upwards, so that shifting the input by whole steps shifts the result alike."""
    return math.floor(x + 0.5)


@dataclass(frozen=True, slots=True)
class Line:
    """How a pool's scores rise with requests in flight per room: moments of the last minutes."""

    weight: float = 0.0  # 0..1, how much of the window is filled
    load: float = 0.0
    points: float = 0.0
    spread: float = 0.0  # variance of load
    common: float = 0.0  # covariance of load and points
    strayed: float = 0.0  # mean square of what nodes stray from where they usually lie beside it
    known: float = 0.0  # 0..1, how much of the window that is known of

    def take(self, load: float, points: float, part: float) -> Line:
        """The line after one more point that makes up `part` of the window."""
        share = part / (self.weight + part) if self.weight + part > 0 else 1.0
        share = max(share, part)
        dx, dy = load - self.load, points - self.points
        return Line(
            weight=self.weight + part * (1 - self.weight),
            load=self.load + share * dx,
            points=self.points + share * dy,
            spread=(1 - share) * (self.spread + share * dx * dx),
            common=(1 - share) * (self.common + share * dx * dy),
            strayed=self.strayed,
            known=self.known,
        )

    def stray(self, points: float, part: float) -> Line:
        """The line after a node strayed by so much for `part` of the window."""
        share = max(part / (self.known + part), part)
        strayed = self.strayed + share * (points * points - self.strayed)
        return replace(self, strayed=strayed, known=self.known + part * (1 - self.known))

    def slope(self, prior: float, spread: float) -> float:
        """Points per request and room, between flat and through the origin.

        `prior` is the believed part of the slope through the origin, as good as data of this relative `spread` of load.
        """
        if self.load <= 0 or self.points <= 0:
            return 0.0
        steepest = self.points / self.load
        trust = (spread * self.load) ** 2
        return min(steepest, max(0.0, (self.common + trust * prior * steepest) / (self.spread + trust)))


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """One node's averages, grid positions and last weight."""

    heard: float  # when its numbers were last believed
    seen: float | None = None  # instant of the newest reading that was taken in
    inflight: float = 0.0  # ours, averaged
    counted: float | None = None  # instant of the newest count that was taken in
    others: float = 0.0  # requests of others on it, averaged
    others_heard: float = 0.0
    inside: float = 0.0  # requests inside, as the node counts them, averaged over a minute
    sent: float = 0.0  # ours of them, averaged alike
    speed: float | None = None  # generated tokens per second and running request, averaged
    measured: float = 0.0  # seconds that speed was averaged over
    rested: tuple[tuple[str, float], ...] = ()  # classic: its memory use when idle, by signal
    points: float | None = None  # classic: its score above idle memory, averaged
    scored_at: float = 0.0
    excess: float = 0.0  # classic: points of score that our own requests do not explain, averaged
    usual: float = 0.0  # classic: where it usually lies beside the line, in points
    usual_for: float = 0.0  # seconds that this was averaged over
    fill: float | None = None  # llm: score, averaged: the evidence for less room than believed
    tokens: float | None = None  # the room it last published
    raw: float | None = None  # the room that its grid position came from
    room: int | None = None  # quarter octaves from the pool's median
    u: Step = field(default_factory=Step)  # half octaves that others take
    s: Step = field(default_factory=Step)  # half octaves of speed
    trim: Step = field(default_factory=Step)  # half octaves of room that lasting evidence takes
    weight: int | None = None  # as last published
    turned: int = 0  # direction of its last change
    turned_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """One pool's memory."""

    at: float  # the last tick
    nodes: Mapping[str, NodeMemory] = field(default_factory=dict)
    pushed_at: float | None = None
    taken_back: tuple[float, ...] = ()  # recent pushes that took back a young change
    guard_until: float | None = None
    profile: str = "llm"
    line: Line = field(default_factory=Line)
    shortage: float | None = None  # KV in use per node as a part of the smallest node's, averaged
    short: bool = False  # whether published rooms count for it


def recall(weight: int, trimmed: float, left: float, speed: float, now: float) -> NodeMemory:
    """A node's memory from what its weight was made of: the grid positions, with no averages behind them yet."""
    return NodeMemory(
        heard=now,
        others_heard=now,
        u=Step(_half_octaves(left)),
        s=Step(_half_octaves(speed)),
        trim=Step(_half_octaves(trimmed)),
        weight=weight,
    )


def _half_octaves(factor: float) -> int:
    """Bounded, for it comes from outside."""
    return max(-16, min(16, nearest(2 * math.log2(factor))))


_NODE_TIMES: Final = ("heard", "seen", "counted", "others_heard", "scored_at", "turned_at")
_STEPS: Final = ("u", "s", "trim")


def dump(memory: PoolMemory) -> dict[str, Any]:
    """The memory as plain data that JSON can carry."""
    return {"version": VERSION, **_plain(memory)}


def restore(data: object, now: float, elapsed: float = 0.0) -> PoolMemory | None:
    """The memory as it was `elapsed` seconds before `now`; None when the data is of another version or broken."""
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        return None
    try:
        shift = now - elapsed - _number(data["at"])
        nodes = {str(name): _node(value, shift) for name, value in sorted(data["nodes"].items())}
        return PoolMemory(
            at=_number(data["at"]) + shift,
            nodes=nodes,
            pushed_at=_moved(data["pushed_at"], shift),
            taken_back=tuple(_number(t) + shift for t in data["taken_back"]),
            guard_until=_moved(data["guard_until"], shift),
            profile=str(data["profile"]),
            shortage=_moved(data["shortage"], 0.0),
            short=bool(data["short"]),
            line=Line(**{f.name: _number(data["line"][f.name]) for f in fields(Line)}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _node(data: Mapping[str, Any], shift: float) -> NodeMemory:
    known = {f.name for f in fields(NodeMemory)}
    values: dict[str, Any] = {k: _scalar(v) for k, v in data.items() if k in known and k not in (*_STEPS, "rested")}
    values["rested"] = tuple((str(signal), _number(level)) for signal, level in data["rested"])
    steps: dict[str, Any] = {k: _step(data[k], shift) for k in _STEPS}
    moved: dict[str, Any] = {k: _moved(values.get(k), shift) for k in _NODE_TIMES}
    return NodeMemory(**{**values, **steps, **moved})


def _step(data: Mapping[str, Any], shift: float) -> Step:
    value = max(-FARTHEST, min(FARTHEST, int(data["value"])))  # no grid is as wide; 2 to the power of it is a number
    return Step(value, int(data["toward"]), _number(data["since"]) + (shift if data["toward"] else 0.0))


def _moved(value: object, shift: float) -> float | None:
    return None if value is None else _number(value) + shift


def _scalar(value: object) -> float | int | None:
    return value if value is None or isinstance(value, int) else _number(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"not a finite number: {value!r}")
    return float(value)
