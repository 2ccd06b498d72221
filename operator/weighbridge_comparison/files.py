"""Fleet files and traces as values, with every mistake's place, field and remedy."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from weighbridge_api.faults import read_faults, spell
from weighbridge_comparison.fleet import Fleet
from weighbridge_operator.sources.documents import MOST_BYTES, Document, read_documents
from weighbridge_simulator.workload import Arrival, read_trace

MOST_TRACE = 64 << 20  # bytes


class FleetError(ValueError):
    """One line for each thing that is wrong with a file."""


def read_fleet(path: Path) -> Fleet:
    """The fleet of a file. FleetError with FILE:LINE:COLUMN: FIELD: what is wrong; what to change."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise FleetError(f"{path}: {(error.strerror or str(error)).lower()}; name a file with a fleet") from None
    documents = read_documents(data)
    if len(documents) != 1:
        told = "holds no fleet" if not documents else f"holds {len(documents)} documents"
        raise FleetError(f"{path}: {told}; write one fleet into it")
    return _read(path, documents[0])


def _read(path: Path, document: Document) -> Fleet:
    lines = [
        f"{path}:{flaw.mark.line}:{flaw.mark.column}: {spell(flaw.path) or 'the file'}: {flaw.message}; {flaw.remedy}"
        for flaw in document.flaws
    ]
    if not lines:
        try:
            return Fleet.model_validate(document.value, by_alias=True, by_name=False)
        except ValidationError as error:
            for fault in read_faults(error, Fleet):
                mark = document.locate(fault.path)
                lines.append(f"{path}:{mark.line}:{mark.column}: {fault}")
    raise FleetError("\n".join(lines))


def read_arrivals(path: Path) -> tuple[Arrival, ...]:
    """The requests of a trace at its own speed. FleetError names the line that is none."""
    try:
        if path.stat().st_size > MOST_TRACE:
            raise FleetError(f"{path}: is larger than {MOST_TRACE >> 20} MiB; cut it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            arrivals = tuple(sorted(read_trace(file), key=lambda arrival: arrival.at))
    except OSError as error:
        raise FleetError(f"{path}: {(error.strerror or str(error)).lower()}; name a trace") from None
    except ValueError as error:
        raise error if isinstance(error, FleetError) else FleetError(f"{path}: {error}") from None
    if len(arrivals) < 2 or arrivals[-1].at <= arrivals[0].at:
        raise FleetError(f"{path}: holds fewer than two moments; give a longer trace")
    return arrivals
