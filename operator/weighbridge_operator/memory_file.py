"""The weights of the last run, so that a restart goes on from them instead of from neutral.

Written whole and renamed into place; a file that is missing, broken or of another version is as good as none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from weighbridge_operator.core.memory import PoolMemory, dump, restore
from weighbridge_operator.core.tick import Weighed

PERIOD = 5.0  # seconds between writes
OLDEST = 3600.0  # seconds; weights older than this say nothing any more
log = logging.getLogger("weighbridge.memory")


def read_memory(path: Path, now: float) -> Weighed:
    """What was remembered, moved to `now` on this process' clock."""
    try:
        data = json.loads(path.read_text())
        elapsed = time.time() - float(data["written"])
        pools = data["pools"].items() if 0 <= elapsed <= OLDEST else ()
        found = {str(name): restore(value, now, elapsed) for name, value in pools}
    except FileNotFoundError:
        return Weighed()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        log.warning("%s can't be read (%s): weights start neutral", path, error)
        return Weighed()
    memories: dict[str, PoolMemory] = {name: memory for name, memory in found.items() if memory is not None}
    return Weighed(memories=memories)


def write_memory(path: Path, weighed: Weighed) -> None:
    """Remembers every pool. Raises OSError."""
    data = {"written": time.time(), "pools": {name: dump(memory) for name, memory in weighed.memories.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(data))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # half a file on a full disk, under another name after each restart
        raise


async def keep_memory(path: Path, weighed: Callable[[], Weighed]) -> None:
    """Writes what changed every few seconds, and once more at the end."""
    written: Weighed | None = None
    try:
        while True:
            await asyncio.sleep(PERIOD)
            written = _write_if_new(path, weighed(), written)
    finally:
        _write_if_new(path, weighed(), written)


def _write_if_new(path: Path, weighed: Weighed, written: Weighed | None) -> Weighed | None:
    if weighed is written or not weighed.memories:
        return written
    try:
        write_memory(path, weighed)
    except OSError as error:
        log.warning("weights can't be remembered in %s: %s", path, error)
    return weighed
