"""What makes two statuses different enough to write, and how much it matters. Numbers that only flicker make none.

Compared with what was written last, not with the last report: a slow drift is written when it has gone far enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum

from weighbridge_api.conditions import ACCEPTED, READY, RESOLVED_REFS
from weighbridge_operator.status_writer.statuses import Status

SCORE_STEP = 5  # points
LOAD_STEP = 5  # points of a pool
SHARE_STEP, SHARE_PART = 3.0, 0.2  # percent of the pool's requests, or part of what the share was
#: Reasons that every change of configuration passes through; written only where they last.
PASSING = frozenset({"Pending", "NoEnvoy"})
_NUMBER = re.compile(r"\d+(\.\d+)?")


class Need(IntEnum):
    """Why a status is to be written, the most urgent first."""

    VERDICT = 0  # what the user wrote is wrong, or no longer
    LOST = 1  # the object stopped being ready
    READY = 2  # it became ready, or it is a new form that is judged
    CHANGE = 3  # another condition, a weight, a server that came or went
    NUMBERS = 4  # scores, shares, ages


def find_need(before: Status | None, after: Status) -> Need | None:
    """None where `after` says nothing new. `before`: what the object has; None or empty where nothing was written."""
    old, new = _by_type(before or {}), _by_type(after)
    changed = {kind for kind, condition in new.items() if _says_another(old.get(kind), condition)} | (old.keys() - new)
    if any(_is_judged_anew(_value(old, kind), _value(new, kind)) for kind in (ACCEPTED, RESOLVED_REFS)):
        return Need.VERDICT
    if _value(old, READY) == "True" and _value(new, READY) != "True":
        return Need.LOST
    if changed and (_value(old, READY) != _value(new, READY) or _generation(old) != _generation(new)):
        return Need.READY
    if changed or _shape(before or {}) != _shape(after):
        return Need.CHANGE
    return Need.NUMBERS if _moved(before or {}, after) else None


def is_passing(status: Status) -> bool:
    """Whether it says that something is under way, which the next moment may settle."""
    return _by_type(status).get(READY, {}).get("reason") in PASSING


def stamp(before: Status | None, after: Status, now: str) -> Status:
    """`after` with the times of its conditions: kept where the condition's status is what it was, else `now`."""
    old = _by_type(before or {})
    return after | {
        "conditions": [
            each | {"lastTransitionTime": _when(old.get(each["type"]), each, now)} for each in after["conditions"]
        ]
    }


def _is_judged_anew(old: str | None, new: str | None) -> bool:
    """Of a verdict on what the user wrote: whether it is false now and was not, or true again."""
    return old != new and (new == "False" or old is not None)


def _value(conditions: Mapping[str, Status], kind: str) -> str | None:
    return conditions.get(kind, {}).get("status")


def _generation(conditions: Mapping[str, Status]) -> int | None:
    return conditions.get(READY, {}).get("observedGeneration")


def _when(old: Mapping[str, str] | None, new: Mapping[str, str], now: str) -> str:
    return old.get("lastTransitionTime") or now if old and old["status"] == new["status"] else now


def _by_type(status: Status) -> dict[str, Status]:
    return {each["type"]: each for each in status.get("conditions", ())}


def _says_another(old: Status | None, new: Status) -> bool:
    if old is None:
        return True
    if any(old.get(field) != new[field] for field in ("status", "reason", "observedGeneration")):
        return True
    return _blur(old.get("message", "")) != _blur(new["message"])


def _blur(message: str) -> str:
    """Without its numbers: `others hold 57 requests here` is the same news a second later."""
    return _NUMBER.sub("#", message)


def _shape(status: Status) -> object:
    """What changes seldom: who is there, with which weight, in service or not."""
    endpoints = sorted(
        (each["pool"], each["server"], each["address"], each.get("weight"), each.get("healthy") is False)
        for each in status.get("endpoints", ())
    )
    pools = sorted((each["name"], each["profile"], each["servers"]) for each in status.get("pools", ()))
    return endpoints, pools


def _moved(before: Status, after: Status) -> bool:
    old = {(each["pool"], each["server"]): each for each in before.get("endpoints", ())}
    if any(_differ(old[each["pool"], each["server"]], each) for each in after.get("endpoints", ())):
        return True
    if _differ(before.get("summary", {}), after.get("summary", {})):
        return True
    loads = {each["name"]: each.get("load") for each in before.get("pools", ())}
    return any(_far(loads[each["name"]], each.get("load"), LOAD_STEP) for each in after.get("pools", ()))


def _differ(old: Status, new: Status) -> bool:
    share = old.get("share")
    step = max(SHARE_STEP, SHARE_PART * share) if share is not None else SHARE_STEP
    return (
        old.get("age") != new.get("age")
        or _far(old.get("score"), new.get("score"), SCORE_STEP)
        or _far(share, new.get("share"), step)
    )


def _far(old: float | None, new: float | None, step: float) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) >= step
