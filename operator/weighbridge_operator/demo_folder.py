"""The folder of a demonstration: gone with it, and where that was killed, with the next one.

Whether its owner lives the kernel says: a lock on the folder, which ends with the process however that ends. A process
id would not do: another process may have it by now, or one in another container that shares the folder's place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "weighbridge-demo."
_AS_IT_IS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder in the directory for temporary files; those of dead owners are removed first."""
    remove_stale(Path(tempfile.gettempdir()))
    path, owning = _make()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(owning)


def remove_stale(place: Path) -> None:
    """Removes what killed demonstrations of this user left there; what is anybody else's, or in use, stays."""
    with suppress(OSError):
        parent = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in os.listdir(parent):
                if name.startswith(PREFIX):
                    _remove(name, parent)
        finally:
            os.close(parent)


def _make() -> tuple[Path, int]:
    """The folder, and the descriptor that holds its lock."""
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX)
        folder = os.open(path, _AS_IT_IS)
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Before it was locked, another demonstration may have taken it for one without an owner.
            if os.path.samestat(os.stat(path), os.fstat(folder)):
                return Path(path), folder
        os.close(folder)


def _remove(name: str, parent: int) -> None:
    """By descriptors, so that no link leads elsewhere. A folder in it was not made by us and keeps all of it there."""
    with suppress(OSError):
        folder = os.open(name, _AS_IT_IS, dir_fd=parent)
        try:
            if os.fstat(folder).st_uid != os.geteuid():
                return
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in os.listdir(folder):
                os.unlink(entry, dir_fd=folder)
            os.rmdir(name, dir_fd=parent)
        finally:
            os.close(folder)
