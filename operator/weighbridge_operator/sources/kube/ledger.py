"""What is known of one kind of object: the last good form of each, and what is wrong with the newest.

Pure. Nothing is given up for an absence: an object goes when its deletion was seen, or when it was missing and the
caller has made sure of it. Versions of a cluster only rise, so what is older than what is known is no news; a list that
is older than the last one tells that the cluster was set back, and then everything counts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from weighbridge_api.base import Resource
from weighbridge_api.faults import read_faults
from weighbridge_operator.state import Ref, Rejection

REMEMBERED = 10_000  # deletions


@dataclass(frozen=True, slots=True)
class Entry:
    """`object` is the last good form; `fault` says what is wrong with the newest, and is None where that is it."""

    object: Resource | None
    version: int
    fault: Rejection | None


class Ledger:
    """All objects of one kind, by what the cluster said of them."""

    def __init__(self, model: type[Resource]) -> None:
        self._model = model
        self._entries: dict[Ref, Entry] = {}
        self._gone: dict[Ref, int] = {}  # the version of a deletion, so that an older list does not undo it
        self._listed = 0

    @property
    def objects(self) -> Iterable[Resource]:
        return (entry.object for _, entry in sorted(self._entries.items()) if entry.object is not None)

    @property
    def rejections(self) -> Iterable[Rejection]:
        return (entry.fault for _, entry in sorted(self._entries.items()) if entry.fault is not None)

    def take(self, raw: Mapping[str, Any]) -> bool:
        """One object in its newest form. Whether that changes anything."""
        ref, version = self.identify(raw), read_version(raw)
        before = self._entries.get(ref)
        if version <= self._gone.get(ref, -1) or (before is not None and version <= before.version):
            return False
        held = before.object if before else None
        found, message = self._read(raw)
        entry = Entry(found or held, version, _reject(ref, raw, message, held is not None) if message else None)
        self._entries[ref] = entry
        return before is None or (entry.object, entry.fault) != (before.object, before.fault)

    def drop(self, raw: Mapping[str, Any]) -> bool:
        """An object whose deletion was seen. Whether it was known."""
        return self.forget(self.identify(raw), read_version(raw))

    def forget(self, ref: Ref, version: int = 0) -> bool:
        """An object that is certainly gone, as of a version. Whether it was known."""
        before = self._entries.get(ref)
        if before is not None and version and version < before.version:
            return False  # it was made anew since
        self._gone[ref] = max(version, before.version if before else 0)
        while len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]
        return self._entries.pop(ref, None) is not None

    def find_absent(self, namespace: str | None, listed: Iterable[Ref], version: int) -> frozenset[Ref]:
        """What is known of a namespace (None: of all) and is not in its whole list of this version."""
        if version < self._listed:
            self._gone.clear()
            self._entries = {ref: Entry(e.object, -1, e.fault) for ref, e in self._entries.items()}
        self._listed = version
        present = frozenset(listed)
        return frozenset(
            ref
            for ref, entry in self._entries.items()
            if ref not in present and namespace in (None, ref.namespace) and entry.version <= version
        )

    def find_older(self, listed: Mapping[Ref, int]) -> frozenset[Ref]:
        """Which of the listed objects are not known in the version that the list tells."""
        return frozenset(ref for ref, version in listed.items() if version > self._find_version(ref))

    def _find_version(self, ref: Ref) -> int:
        entry = self._entries.get(ref)
        return max(entry.version if entry else -1, self._gone.get(ref, -1))

    def identify(self, raw: Mapping[str, Any]) -> Ref:
        """Which object it is. Lists leave the kind out."""
        metadata = raw["metadata"]
        return Ref(str(self._model.model_fields["kind"].default), metadata["namespace"], metadata["name"])

    def _read(self, raw: Mapping[str, Any]) -> tuple[Resource | None, str | None]:
        try:
            return self._model.from_cluster({key: raw[key] for key in ("metadata", "spec") if key in raw}), None
        except ValidationError as error:
            faults = read_faults(error, self._model)
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            return None, f"{faults[0]}{more}"


def _reject(ref: Ref, raw: Mapping[str, Any], message: str, held: bool) -> Rejection:
    metadata = raw["metadata"]
    return Rejection(ref, message, held, int(metadata.get("generation") or 0), str(metadata.get("uid") or ""))


def read_version(raw: Mapping[str, Any]) -> int:
    """The resourceVersion of an object or a list; numbers, as Kubernetes promises for its own storage."""
    text = str(raw.get("metadata", {}).get("resourceVersion") or "0")
    return int(text) if text.isascii() and text.isdigit() else 0
