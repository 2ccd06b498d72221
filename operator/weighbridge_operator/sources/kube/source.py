"""The cluster as a source of objects: what kopf hears, made sure of by explicit lists, as one value for the loop.

    explicit lists ─► ledgers ◄─ kopf's events         each kind; nothing goes for an absence that is not confirmed
                        │
                        ├─► Services, EndpointSlices ─┐ of what the nodes name, and nothing else
                        ├─► Secrets ──────────────────┤
                        └─────────────────────────────┴─► debounce ─► ClusterState ─► loop

Nothing is published before every kind was listed and every reference was looked at. An empty first list is asked for
again: an API server that answers empty once must not empty the gateway. Later an absence counts when a deletion was
seen, or when a list misses the object and the API server says of it by name, or in a second list, that it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress

from weighbridge_api.base import GROUP, VERSION, Resource
from weighbridge_api.modelnode import ModelNode
from weighbridge_api.routepolicy import RoutePolicy
from weighbridge_operator.keeping import keep_going, within
from weighbridge_operator.latest import Latest
from weighbridge_operator.settings import ALL, KubernetesSettings
from weighbridge_operator.sources.kube.access import NAMES, Api, ApiError, Raw
from weighbridge_operator.sources.kube.gathering import (
    Wanted,
    find_envoys,
    find_secrets,
    find_services,
    gather,
)
from weighbridge_operator.sources.kube.ledger import Ledger, read_version
from weighbridge_operator.sources.kube.secrets import Secrets
from weighbridge_operator.sources.kube.services import Services
from weighbridge_operator.sources.kube.watcher import Watcher
from weighbridge_operator.state import EnvoyPlaces, Objects, Ref

KINDS: dict[str, type[Resource]] = {"modelnodes": ModelNode, "routepolicies": RoutePolicy}
QUIET, LONGEST = 0.02, 0.25  # seconds without news, and at most, before what is new is published
REFERENCES = 1.0  # seconds that a change waits for what it refers to
AGAIN = 1.0  # seconds until an empty or lacking list is asked for again
AUDIT = 30.0  # seconds between lists that look for what nobody heard
BY_NAME = 20  # absences that are asked for by name; more are looked for in a second list
RETRY_LEAST, RETRY_MOST = 0.5, 1.0  # seconds
log = logging.getLogger("weighbridge.kubernetes")


class ClusterSource:
    """Publishes what the cluster asks for in `states`; `api` is entered already. `own`: the gateway's own Secrets."""

    def __init__(self, settings: KubernetesSettings, api: Api, states: Latest[Objects], own: Wanted) -> None:
        self._settings, self._api, self._states, self._secrets = settings, api, states, own
        self.envoys: Latest[EnvoyPlaces] = Latest()
        self._ledgers = {plural: Ledger(model) for plural, model in KINDS.items()}
        self._dirty, self._doubt = asyncio.Event(), asyncio.Event()
        self.services = Services(api, self._dirty.set)
        self.secrets = Secrets(api, self._dirty.set)

    async def run(self) -> None:
        """Reads until cancelled."""
        loop = asyncio.get_running_loop()

        def deliver(plural: str, kind: str | None, raw: Raw) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._hear, plural, kind, raw)

        self._watcher = Watcher(KINDS, [] if self._namespaces == (None,) else self._settings.watch, deliver)
        try:
            await self._first_lists()
            await self._refer(None)
            self._publish()
            self._watcher.start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep_going("publishing objects", self._follow))
                tasks.create_task(keep_going("looking for what was not heard", self._audit))
                tasks.create_task(keep_going("asking whether the API server is there", self._attend))
                tasks.create_task(keep_going("reading Secrets", self.secrets.run))
        finally:
            self._watcher.stop()
            await self.services.stop()

    @property
    def _namespaces(self) -> tuple[str | None, ...]:
        return (None,) if ALL in self._settings.watch else self._settings.watch

    def _places(self) -> Iterator[tuple[str, str | None]]:
        for plural in KINDS:
            for namespace in self._namespaces:
                yield plural, namespace

    async def _first_lists(self) -> None:
        await asyncio.gather(*(self._first_list(*place) for place in self._places()))

    async def _first_list(self, plural: str, namespace: str | None) -> None:
        empty, pause, said = 0, RETRY_LEAST, ""
        while True:
            try:
                if await self._list_whole(plural, namespace) or empty:
                    return
                empty += 1
                await asyncio.sleep(AGAIN)
            except ApiError as error:
                if str(error) != said:
                    log.warning("%s can't be listed yet: %s", plural, error)
                said = str(error)
                await asyncio.sleep(pause)
                pause = min(RETRY_MOST, 2 * pause)

    async def _list_whole(self, plural: str, namespace: str | None) -> int:
        """Takes every object of a kind; how many there are."""
        count = 0
        async for part in self._api.list_all(_path(plural, namespace)):
            for raw in part.get("items") or ():
                count += 1
                self._ledgers[plural].take(raw)
            await asyncio.sleep(0)  # a large fleet must not hold up everything else
        return count

    def _hear(self, plural: str, kind: str | None, raw: Raw) -> None:
        ledger = self._ledgers[plural]
        changed = ledger.drop(raw) if kind == "DELETED" else ledger.take(raw)
        if changed:
            self._dirty.set()
        if kind is None:
            self._doubt.set()  # kopf listed anew: what it lacks has to be looked for

    async def _follow(self) -> None:
        while True:
            await self._dirty.wait()
            began = time.monotonic()
            while time.monotonic() - began < LONGEST:
                self._dirty.clear()
                if not await within(QUIET, self._dirty.wait()):
                    break
            self._dirty.clear()
            await self._refer(REFERENCES)
            self._publish()

    async def _refer(self, limit: float | None) -> None:
        """Has everything looked at that the nodes refer to; within so many seconds, else they are served without it."""
        nodes = [node for node in self._ledgers["modelnodes"].objects if isinstance(node, ModelNode)]
        own = {self._own} if self._own else set()
        looking = asyncio.gather(
            self.services.want(find_services(nodes) | own), self.secrets.want(find_secrets(nodes, self._secrets))
        )
        await within(limit, looking)

    def _publish(self) -> None:
        services = self.services.states
        own = services.get(self._own) if self._own else None
        envoys = find_envoys(own) if self._own else None
        if envoys is not None and envoys != self.envoys.get():
            self.envoys.set(envoys)
        state = gather(self._ledgers.values(), services, self.secrets.values, own)
        if state != self._states.get():
            self._states.set(state)

    @property
    def _own(self) -> tuple[str, str] | None:
        """The Service of the gateway's Envoys."""
        return (self._settings.namespace, self._settings.envoys) if self._settings.envoys else None

    async def _audit(self) -> None:
        while True:
            await within(AUDIT, self._doubt.wait())
            await asyncio.sleep(AGAIN)  # one list of kopf's tells of many objects
            self._doubt.clear()
            for plural, namespace in self._places():
                try:
                    await self._find_unheard(plural, namespace)
                except ApiError as error:
                    log.info("%s can't be looked through: %s; what is known stays", plural, error)

    async def _attend(self) -> None:
        # A watch that outlived an absence may be deaf: no word came that its connection is dead, and kopf would wait
        # 70 seconds for one, a feed 75. Whoever begins anew where he was misses nothing.
        plural, namespace = next(self._places())
        away = False
        while True:
            try:
                await self._api.get(_path(plural, namespace), [("limit", "1")], NAMES)
            except ApiError:
                away = True
            else:
                if away:
                    self._watcher.renew()
                    self.services.resume()
                    self._doubt.set()
                away = False
            await asyncio.sleep(AGAIN)

    async def _find_unheard(self, plural: str, namespace: str | None) -> None:
        """Deletions and changes that no watch told."""
        absent, older = await self._compare(plural, namespace)
        if len(older) > BY_NAME:
            await self._list_whole(plural, namespace)
            self._dirty.set()
        for ref in sorted(older) if len(older) <= BY_NAME else ():
            self._hear(plural, "MODIFIED", await self._api.get(f"{_path(plural, ref.namespace)}/{ref.name}"))
        if len(absent) > BY_NAME:
            await asyncio.sleep(AGAIN)
            gone = absent & (await self._compare(plural, namespace))[0]
        else:
            gone = frozenset([ref for ref in sorted(absent) if await self._is_gone(plural, ref)])
        for ref in gone:
            self._ledgers[plural].forget(ref)
            self._dirty.set()

    async def _compare(self, plural: str, namespace: str | None) -> tuple[frozenset[Ref], frozenset[Ref]]:
        """What is known and not there, and what is there and not known in its newest form."""
        ledger, present, version = self._ledgers[plural], dict[Ref, int](), 0
        async for part in self._api.list_all(_path(plural, namespace), accept=NAMES):
            version = read_version(part)
            present |= {ledger.identify(raw): read_version(raw) for raw in part.get("items") or ()}
            await asyncio.sleep(0)
        return ledger.find_absent(namespace, present, version), ledger.find_older(present)

    async def _is_gone(self, plural: str, ref: Ref) -> bool:
        try:
            await self._api.get(f"{_path(plural, ref.namespace)}/{ref.name}")
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        return False


def _path(plural: str, namespace: str | None) -> str:
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{place}/{plural}"
