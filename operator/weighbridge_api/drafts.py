"""What an invalid document means apart from its mistakes, so that no mistake hides another.

pydantic looks at what spans several fields only once each of them is valid, and a rule names the first thing that
breaks it. So each fault is cured in a copy: what stands there is left out, put as it was probably meant, or replaced
by a value that could be anybody's. The copy is judged again, until nothing is wrong with it. What a cure itself brings
about is nobody's fault and is not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from weighbridge_api.base import Resource
from weighbridge_api.faults import Fault, Path, read_faults

_ROUNDS: Final = 24
#: Of one object; with more of them it is another kind of text, and those of the first round say enough.
_MOST: Final = 100

#: Values of required fields that could be anybody's, by the field's name.
_ANY: Final[Mapping[str, object]] = {
    "address": {"host": "192.0.2.1", "port": 1},
    "engine": "openai",
    "host": "192.0.2.1",
    "key": "unknown",
    "matchLabels": {"unknown": ""},
    "metadata": {"name": "unknown"},
    "metric": "unknown",
    "model": "unknown",
    "models": [{"name": "unknown"}],
    "name": "unknown",
    "port": 1,
    "secretRef": {"name": "unknown", "key": "unknown"},
    "service": {"name": "unknown", "port": 1},
    "share": 0,
    "spec": {},
    "version": "unknown",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """`object` is None where no cure helped. `cured`: places that no longer hold what the document says."""

    object: Resource | None
    faults: tuple[Fault, ...]
    cured: tuple[Path, ...]


def draw(model: type[Resource], data: object, absent: Iterable[Path] = ()) -> Draft:
    """Every fault of `data` as it was read from a file, `absent` left out, and what it means without them."""
    absent = tuple(absent)
    if not absent:
        try:
            return Draft(model.from_file(data), (), ())
        except ValidationError:
            pass  # looked into below, on a copy
    copy = _Copy(_copy(data))
    for path in absent:
        copy.leave_out(path)
    found: dict[Fault, None] = {}
    for _ in range(_ROUNDS):
        try:
            made = model.from_file(copy.value)
        except ValidationError as error:
            faults = read_faults(error, model, quote=model.quotable)
        else:
            return Draft(made, tuple(found), tuple(copy.cured))
        first = not found
        found |= dict.fromkeys(each for each in map(copy.trace, faults) if not copy.is_echo(each))
        if (first and len(faults) > _MOST) or not copy.cure(faults):
            break
    return Draft(None, tuple(found), tuple(copy.cured))


@dataclass(slots=True)
class _Copy:
    """A copy under treatment. Paths in `value` are the document's, but for list entries that went and renamed keys."""

    value: Any
    cured: list[Path] = field(default_factory=list)
    _gone: dict[Path, list[str | int]] = field(default_factory=dict)
    _renamed: dict[Path, str] = field(default_factory=dict)
    _tries: dict[Path, int] = field(default_factory=dict)

    def trace(self, fault: Fault) -> Fault:
        """The fault with the document's own paths."""
        about = tuple(map(self._trace, fault.about))
        return Fault(
            self._trace(fault.path), fault.message, fault.remedy, self._trace(fault.cure), fault.instead, about
        )

    def is_echo(self, fault: Fault) -> bool:
        """Whether a cure brought the (traced) fault about."""
        return any(
            fault.cure[: len(done)] == done
            or any(each[: len(done)] == done or done[: len(each)] == each for each in fault.about)
            for done in self.cured
        )

    def cure(self, faults: Iterable[Fault]) -> bool:
        """Treats each of them; False where nothing could be done."""
        going: list[Path] = []
        done = [self._treat(each, going) for each in faults]
        # The deepest first and the last first, so that no position moves before its turn.
        for path in sorted(set(going), key=lambda path: (-len(path), -path[-1] if isinstance(path[-1], int) else 0)):
            self.leave_out(path)
        return any(done)

    def leave_out(self, path: Path) -> None:
        self.cured.append(self._trace(path))
        holder = self._holder(path)
        match holder, path[-1]:
            case dict(), str() as key:
                holder.pop(key, None)
            case list(), int() as index if index < len(holder):
                self._gone.setdefault(self._trace(path[:-1]), []).append(self._trace(path)[-1])
                del holder[index]

    def _treat(self, fault: Fault, going: list[Path]) -> bool:
        place = fault.cure
        while place:
            known = self._trace(place)
            tries = self._tries.get(known, 0)
            self._tries[known] = tries + 1
            holder = self._holder(place)
            if self._put_meant(fault, place, holder, tries == 0):
                return True
            if tries <= 1 and isinstance(holder, dict) and place[-1] in _ANY:
                holder[place[-1]] = _copy(_ANY[str(place[-1])])
                self.cured.append(known)
                return True
            if tries <= 2 and _holds(holder, place[-1]):
                going.append(place)
                return True
            place = place[:-1]
        return False

    def _put_meant(self, fault: Fault, place: Path, holder: Any, first: bool) -> bool:
        """Puts what was probably meant, which is judged as if it had been written."""
        if not _holds(holder, place[-1]):
            return False
        value = holder[place[-1]]
        instead = _requote(fault, value) if fault.instead is None else fault.instead
        if instead is not None and instead != value:
            holder[place[-1]] = instead
            return True
        meant = fault.remedy.removeprefix("did you mean ").removesuffix("?")
        if meant == fault.remedy or not first:
            return False
        if fault.message != "is not a known field" and isinstance(value, str):
            holder[place[-1]] = meant
            return True
        if not isinstance(holder, dict) or meant in holder:
            return False
        self._renamed[(*self._trace(place[:-1]), meant)] = str(place[-1])
        holder[meant] = holder.pop(place[-1])
        return True

    def _holder(self, path: Path) -> Any:
        """The mapping or list that the last step leads into, or None."""
        value = self.value
        for step in path[:-1]:
            if not _holds(value, step):
                return None
            value = value[step]
        return value

    def _trace(self, path: Path) -> Path:
        traced: Path = ()
        for step in path:
            own = step
            if isinstance(own, int):
                for gone in sorted(int(each) for each in self._gone.get(traced, ())):
                    own += gone <= own
            traced = (*traced, own if isinstance(own, int) else self._renamed.get((*traced, own), own))
        return traced


def _requote(fault: Fault, value: object) -> object:
    """The value with or without the quotes that the fault speaks of; None where it speaks of none."""
    if fault.message.startswith("must be a string") and isinstance(value, bool | int | float):
        return str(value)
    if fault.remedy.endswith("without quotes") and isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return None


def _holds(value: object, step: str | int) -> bool:
    match value:
        case dict():
            return step in value
        case list():
            return isinstance(step, int) and step < len(value)
        case _:
            return False


def _copy(value: object) -> object:
    """Mappings and lists anew, also where an alias repeats one."""
    match value:
        case dict():
            return {key: _copy(each) for key, each in value.items()}
        case list():
            return [_copy(each) for each in value]
        case _:
            return value
