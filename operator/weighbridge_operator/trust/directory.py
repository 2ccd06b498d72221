"""Material from a mounted Secret: read as one, watched, and taken over when it is whole.

kubelet swaps a mounted Secret by renaming the link `..data`; all three files are read behind one look at it, so that
no pair is ever half old and half new. What is broken is said once, and the last good material stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from weighbridge_operator.latest import Latest
from weighbridge_operator.trust.material import (
    AUTHORITIES,
    CERTIFICATE,
    KEY,
    LONGEST,
    Material,
    MaterialError,
    read_material,
    to_utc,
)

POLL = 1.0  # seconds between looks
log = logging.getLogger("weighbridge.trust")


def read_directory(directory: Path, now: float) -> Material:
    """The material in `directory`; seconds since 1970. Raises MaterialError, which names the directory."""
    try:
        swapped = directory / "..data"
        place = swapped.resolve(strict=True) if swapped.is_symlink() else directory
        entries = {name: _read(place / name) for name in (CERTIFICATE, KEY, AUTHORITIES)}
        return read_material(entries, trusts=True, now=to_utc(now))
    except OSError as error:
        raise MaterialError(f"{directory}: {error.strerror or 'cannot be read'}: {error.filename}") from None
    except MaterialError as error:
        raise MaterialError(f"{directory}: {error}") from None


async def follow_directory(
    directory: Path, material: Latest[Material], *, clock: Callable[[], float] = time.time, poll: float = POLL
) -> None:
    """Keeps `material`, which has been set once, as it is in `directory`. Ends by cancellation."""
    said = ""
    while True:
        await asyncio.sleep(poll)
        try:
            found = await asyncio.to_thread(read_directory, directory, clock())
        except MaterialError as error:
            if str(error) != said:
                log.warning("%s; the certificates from before stay in use", error)
            said = str(error)
            continue
        said = ""
        if found != material.get():
            material.set(found)
            log.info("xDS certificates changed; the new one is good until %s", f"{found.until:%Y-%m-%d %H:%M} UTC")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LONGEST + 1)
