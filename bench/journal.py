"""What a benchmark has measured, kept as it goes: one that was cut off goes on where it was.

A line of JSON for each cell. It is found again by its whole setting, seed and gateway, whatever measured it: a journal
is of one version of the code, and who changes the code begins another. Lines without the single requests are results
all the same, and are what bench/results publishes: `jq -c 'del(.at_ms, .wait_ms, .node)' JOURNAL`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from plan import Run
from weighbridge_comparison.cells import Cell
from weighbridge_comparison.results import describe

Key = tuple[str, int, str]  # of a setting, seed, mechanism

BEGINS = '{"setting":'  # every journal; one that was cut off within its first line begins as this does


class JournalError(Exception):
    """What is wrong with a journal, for the one who named it."""


class Journal:
    """The cells that `path` holds; nothing and nowhere where it is None. JournalError where it holds something else."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[Key, Cell] = {}
        text = _read(path) if path else ""
        if not BEGINS.startswith(text.lstrip()[: len(BEGINS)]):
            raise JournalError(f"{path} is no journal of a benchmark; name another file, or a new one")
        for line in text.splitlines():
            # One that was cut off while it was written is not there; its run is done again.
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                told = json.loads(line)
                fleet, cell = told.pop("fleet"), _restore(told)
                self._known[fleet, cell.seed, cell.mechanism] = cell

    def find(self, run: Run, mechanisms: Iterable[str]) -> list[Cell] | None:
        """What was measured of this run through all of these; None where something is missing."""
        setting, seed = run
        found = [self._known.get((_digest(run), seed, mechanism)) for mechanism in mechanisms]
        named = [cell for cell in found if cell is not None and cell.title == setting.title]
        return named if len(named) == len(found) else None

    def keep(self, them: Sequence[Run], cells: Sequence[Cell]) -> None:
        """Adds the cells of these runs."""
        if self._path is None:
            return
        digests = {(setting.title, seed): _digest((setting, seed)) for setting, seed in them}
        with self._path.open("a") as out:
            for cell in cells:
                out.write("\n" + json.dumps(describe(cell) | {"fleet": digests[cell.title, cell.seed]}))


def _read(path: Path) -> str:
    """What is in it, nothing where it is not there yet."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}; name a file to write to") from None


def _digest(run: Run) -> str:
    """Of all that decides what is measured: not of what is promised of it, nor of its other seeds."""
    setting, _ = run
    told = setting.fleet.model_dump_json(exclude={"bounds", "description", "seeds"})
    return sha256(f"{setting.title}\n{told}".encode()).hexdigest()[:16]


def _restore(told: dict[str, Any]) -> Cell:
    columns = [told.pop(name, ()) for name in ("at_ms", "wait_ms", "node")]
    rows = tuple((at / 1000, wait / 1000, node) for at, wait, node in zip(*columns, strict=True))
    return Cell(**told, rows=rows)
