"""Keeps a piece of work going: a fault of ours in it is logged and the work starts anew; the rest never notices.

The gateway serves by what it published last, so that a part that fails for a second costs freshness and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable

PAUSE = 1.0  # seconds before the work starts anew
log = logging.getLogger("weighbridge.keeping")


async def keep_going(name: str, work: Callable[[], Awaitable[None]], pause: float = PAUSE) -> None:
    """Runs `work` until it ends by itself or is cancelled, as often as it fails."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed and starts anew in %g s", name, pause)
            await asyncio.sleep(pause)
        else:
            return


async def within(limit: float | None, work: Awaitable[object]) -> bool:
    """Waits for it at most so many seconds; whether it came to its end."""
    # Not wait_for, which swallows a cancellation that comes together with the result.
    try:
        async with asyncio.timeout(limit):
            await work
    except TimeoutError:
        return False
    return True


def collect_seldom() -> None:
    """Looks for cyclic garbage a hundredth as often as Python does by itself.

    With 1,000 nodes each look through everything stops the process for 0.1 to 0.14 s (`bench/apply_effect.py`). What a
    change leaves behind is freed by counts; cycles are few.
    """
    gc.set_threshold(20_000, 50, 100)
