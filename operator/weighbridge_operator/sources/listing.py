"""Which files a path names, what they hold, and whether that has changed.

Change is noticed by asking for the files' state again and again, not by inotify: that sees nothing on network file
systems, and loses its subject when an editor or a ConfigMap puts another file or directory in the old one's place.
A directory's own entries count, its subdirectories do not, as in kubectl.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from weighbridge_operator.sources.documents import MOST_BYTES

SUFFIXES = (".yaml", ".yml", ".json")
_MOST_FILES = 10_000


@dataclass(frozen=True, slots=True)
class FileText:
    """What a file held. `data` is None where it could not be read; then `trouble` says why and what to do."""

    name: str
    data: bytes | None
    private: bool = False
    trouble: tuple[str, str] | None = None
    #: There is no such file. Where it was a directory, what it held is not known to be gone.
    gone: bool = False


#: State of every file below the paths; equal states mean that nothing has changed.
Fingerprint = tuple[tuple[object, ...], ...]


def read_files(paths: Sequence[Path]) -> tuple[FileText, ...]:
    """Every file that `paths` name, sorted, each one once. Never raises for what is on the disk."""
    found: dict[str, FileText] = {}
    for path in paths:
        for text in _read_path(path):
            found.setdefault(text.name, text)
    return tuple(found[name] for name in sorted(found))


def take_fingerprint(paths: Sequence[Path]) -> Fingerprint:
    """Cheap: one stat for each file. Mode and change time are in it, because a chmod can make a secret readable."""
    return tuple(_describe(name) for path in paths for name in (str(path), *_list_names(path)))


def _read_path(path: Path) -> Iterator[FileText]:
    try:
        names = _list(path) if stat.S_ISDIR(os.stat(path).st_mode) else [str(path)]
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        remedy = "correct the path" if gone else "make it readable"
        yield FileText(str(path), None, trouble=(_say(error), remedy), gone=gone)
        return
    if len(names) > _MOST_FILES:
        trouble = (f"holds more than {_MOST_FILES} YAML files", "put several objects into one file")
        yield FileText(str(path), None, trouble=trouble)
        return
    for name in names:
        yield _read_file(name)


def _list_names(path: Path) -> list[str]:
    try:
        return _list(path) if path.is_dir() else []
    except OSError:
        return []


def _list(path: Path) -> list[str]:
    """Files of a directory; hidden ones are editors' and ConfigMaps' own."""
    return sorted(
        str(path / entry.name)
        for entry in os.scandir(path)
        if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".")
    )


def _describe(name: str) -> tuple[object, ...]:
    try:
        found = os.stat(name)
    except OSError as error:
        return name, error.errno
    if stat.S_ISDIR(found.st_mode):
        return name, found.st_ino, found.st_mode
    return name, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read_file(name: str) -> FileText:
    try:
        with open(name, "rb", opener=_open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                return FileText(name, None, trouble=("is not a regular file", "give it another name"))
            return FileText(name, file.read(MOST_BYTES + 1), private=not mode & 0o077)
    except OSError as error:
        return FileText(name, None, trouble=(_say(error), "make it a file that can be read, or remove it"))


def _open_at_once(name: str, flags: int) -> int:
    # A pipe that is named like a file would stop us until somebody writes to it.
    return os.open(name, flags | os.O_NONBLOCK)


def _say(error: OSError) -> str:
    return f"cannot be read ({(error.strerror or 'unknown error').lower()})"
