"""What can be done to a node while it runs, as one frozen value. Pure.

A patch is a JSON object whose keys are the fields below; null takes a field back to what the node started with, and
`{"clear": true}` all of them. Every error names the field and what it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal, get_args

Freeze = Literal["off", "engine", "all"]
Lie = Literal["off", "idle", "frozen", "nan", "half", "absent"]
FailKind = Literal["status", "reset", "die"]


class ControlError(ValueError):
    """A patch that makes no sense."""


@dataclass(frozen=True, slots=True)
class Fail:
    """How requests fail: at once with a status, by a reset connection, or by dying in mid-answer. `share` of them."""

    kind: FailKind
    status: int = 503
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """A node's knobs. Shares are 0..1; an override that is None leaves the number to the engine."""

    slow: float = 1.0  # times slower than its size says
    size: float = 1.0  # room and compute, in unit nodes
    fail: Fail | None = None
    freeze: Freeze = "off"  # engine: tokens stop; all: nothing but /sim answers
    lie: Lie = "off"  # what the engine's metrics say instead of the truth
    cpu: float | None = None
    memory: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None
    queue: int | None = None  # what the engine says is waiting
    flood: float = 0.0  # requests a second from others, that no gateway sees
    down: bool = False  # not listening, all connections closed


def patch_control(control: Control, initial: Control, patch: object) -> Control:
    """The control after a patch. ControlError says which field is wrong and what it takes."""
    if not isinstance(patch, Mapping):
        raise ControlError("the patch must be a JSON object")
    changes: dict[str, Any] = {}
    for name, value in patch.items():
        if name == "clear":
            if value is not True:
                raise ControlError("clear: takes true")
            control = initial
            continue
        field = "size" if name == "room" else name
        if field not in _READERS:
            raise ControlError(f"{name}: unknown; known are clear, room, {', '.join(sorted(_READERS))}")
        changes[field] = getattr(initial, field) if value is None else _READERS[field](field, value)
    return replace(control, **changes)


def describe_control(control: Control) -> dict[str, Any]:
    """The control as JSON."""
    return asdict(control)


def _freeze(_: str, value: object) -> object:
    if isinstance(value, bool):
        return "all" if value else "off"
    return _word("freeze", value, Freeze)


def _lie(_: str, value: object) -> object:
    return _word("lie", "off" if value is False else value, Lie)


def _factor(name: str, value: object) -> object:
    return _number(name, value, 0.001, 1000.0)


def _share(name: str, value: object) -> object:
    return _number(name, value, 0.0, 1.0)


def _rate(name: str, value: object) -> object:
    return _number(name, value, 0.0, 1000.0)


def _count(name: str, value: object) -> object:
    return int(_number(name, value, 0.0, 1e6))


def _switch(name: str, value: object) -> object:
    if not isinstance(value, bool):
        raise ControlError(f"{name}: takes true or false, not {value!r}")
    return value


def _fail(_: str, value: object) -> object:
    share: object = 1.0
    if isinstance(value, Mapping):
        unknown = sorted(str(key) for key in value if key not in ("status", "share"))
        if unknown or "status" not in value:
            raise ControlError(f"fail: takes status and share, not {', '.join(unknown) or 'no status'}")
        share = value.get("share", 1.0)
        value = value["status"]
    part = _number("fail.share", share, 0.0, 1.0)
    if value is False or value == 0:
        return None
    if value == "reset":
        return Fail("reset", share=part)
    if value == "die":
        return Fail("die", share=part)
    if type(value) is int and 400 <= value <= 599:
        return Fail("status", value, part)
    raise ControlError(f"fail: takes a status from 400 to 599, reset, die, or 0 for none, not {value!r}")


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ControlError(f"{name}: takes a number, not {value!r}")
    if not least <= value <= most:
        raise ControlError(f"{name}: takes {least:g} to {most:g}, not {value:g}")
    return float(value)


def _word(name: str, value: object, words: object) -> str:
    known = get_args(words)
    if value not in known:
        raise ControlError(f"{name}: takes {', '.join(known)}, not {value!r}")
    return str(value)


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "slow": _factor,
    "size": _factor,
    "fail": _fail,
    "freeze": _freeze,
    "lie": _lie,
    "cpu": _share,
    "memory": _share,
    "gpu": _share,
    "gpu_memory": _share,
    "queue": _count,
    "flood": _rate,
    "down": _switch,
}
