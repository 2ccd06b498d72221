"""The Services that are named somewhere, with their endpoints: one watch for each namespace that has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set
from typing import Any

from weighbridge_operator.keeping import keep_going
from weighbridge_operator.sources.kube.access import Api
from weighbridge_operator.sources.kube.feed import Feed
from weighbridge_operator.sources.kube.gathering import Key
from weighbridge_operator.sources.kube.slices import LABEL, Ports, Slice, merge, read_service, read_slice
from weighbridge_operator.state import ServiceState


class Services:
    """Keeps what is wanted and nothing else; `changed` is told when any of it changes."""

    def __init__(self, api: Api, changed: Callable[[], None]) -> None:
        self._api, self._changed = api, changed
        self._places: dict[str, _Place] = {}

    async def want(self, keys: Set[Key]) -> None:
        """Follows these from now on; returns when all of them are known, or known not to exist."""
        names: dict[str, set[str]] = {}
        for namespace, name in keys:
            names.setdefault(namespace, set()).add(name)
        for namespace in self._places.keys() - names.keys():
            await self._places.pop(namespace).stop()
        for namespace, wanted in names.items():
            if namespace not in self._places:
                self._places[namespace] = _Place(self._api, namespace, self._changed)
            self._places[namespace].want(frozenset(wanted))
        await asyncio.gather(*(place.wait() for place in self._places.values()))

    def resume(self) -> None:
        """Begins every watch anew, from where it was."""
        for place in self._places.values():
            place.services.resume()
            place.slices.resume()

    async def stop(self) -> None:
        """Follows nothing any more, and forgets what it knew."""
        places, self._places = self._places, {}
        for place in places.values():
            await place.stop()

    @property
    def states(self) -> Mapping[Key, ServiceState]:
        """What is known, by key, sorted."""
        found: dict[Key, ServiceState] = {}
        for namespace, place in sorted(self._places.items()):
            pieces: dict[str, list[Slice]] = {}
            for _, piece in sorted(place.slices.values.items()):
                pieces.setdefault(piece.service, []).append(piece)
            for name, ports in sorted(place.services.values.items()):
                found[namespace, name] = merge(ports, pieces.get(name, ()))
        return found


class _Place:
    """One namespace."""

    def __init__(self, api: Api, namespace: str, changed: Callable[[], None]) -> None:
        self._wanted: frozenset[str] = frozenset()
        self.services: Feed[Ports] = Feed(api, f"/api/v1/namespaces/{namespace}/services", self._read_service, changed)
        self.slices: Feed[Slice] = Feed(
            api, f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", self._read_slice, changed
        )
        work = (("following Services", self.services.run), ("following EndpointSlices", self.slices.run))
        self._tasks = [asyncio.create_task(keep_going(f"{name} of {namespace}", run)) for name, run in work]

    def want(self, names: frozenset[str]) -> None:
        added, self._wanted = names - self._wanted, names
        for feed in (self.services, self.slices):
            if added:
                feed.renew()
        for name in self.services.values.keys() - names:
            del self.services.values[name]
        for name, piece in list(self.slices.values.items()):
            if piece.service not in names:
                del self.slices.values[name]

    async def wait(self) -> None:
        await asyncio.gather(self.services.wait(), self.slices.wait())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _read_service(self, raw: Mapping[str, Any]) -> Ports | None:
        return read_service(raw) if raw["metadata"]["name"] in self._wanted else None

    def _read_slice(self, raw: Mapping[str, Any]) -> Slice | None:
        if (raw["metadata"].get("labels") or {}).get(LABEL) not in self._wanted:
            return None
        return read_slice(raw)
