"""What resolving found out about an object: the grounds of its conditions, in words that say what to change."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge_operator.state import Ref


@dataclass(frozen=True, slots=True)
class Finding:
    """`condition` (a condition's type) is False for `reason` (one word) and `message`."""

    ref: Ref
    condition: str
    reason: str
    message: str
