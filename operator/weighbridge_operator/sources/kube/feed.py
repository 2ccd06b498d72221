"""One resource of one namespace, listed and watched, of which only what is wanted is kept.

The same care as for our own kinds: a deletion that was seen counts, an absence counts when a second list confirms it,
and while the API server is away everything stays as it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from weighbridge_operator.sources.kube.access import Api, ApiError
from weighbridge_operator.sources.kube.ledger import read_version

T = TypeVar("T")
PAUSE_LEAST, PAUSE_MOST = 0.25, 1.0  # seconds after a failure
REFUSALS = 5  # in a row, after which a right is taken to be lacking: an API server that starts refuses all at first
SHORTEST = 0.5  # seconds between two watches
DOUBT = 1.0  # seconds until an absence is looked at again
log = logging.getLogger("weighbridge.kubernetes")


class Feed(Generic[T]):
    """`values` by name are what `read` makes of each object, None is not kept; `changed` is told of every change."""

    def __init__(
        self,
        api: Api,
        path: str,
        read: Callable[[Mapping[str, Any]], T | None],
        changed: Callable[[], None],
    ) -> None:
        self.values: dict[str, T] = {}
        self._api, self._path, self._read, self._changed = api, path, read, changed
        self._version = 0  # to go on from; 0 asks for a list
        self._renew, self._resume = asyncio.Event(), asyncio.Event()
        self._listed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Follows until cancelled."""
        pause, refusals = PAUSE_LEAST, 0
        while True:
            try:
                if not self._version:
                    await self._list()
                refusals, began = 0, time.monotonic()
                await self._watch()
                pause = PAUSE_LEAST
                # A watch that ends at once, of a proxy that cannot stream, would be begun hundreds of times a second.
                if self._version:
                    await asyncio.sleep(max(0.0, SHORTEST - (time.monotonic() - began)))
            except ApiError as error:
                # 410: what it would go on from is forgotten.
                self._version = self._version if error.status is None else 0
                if error.status != 410:
                    log.warning("%s: %s; what is known stays", self._path, error)
                    refusals += error.status == 403
                    if refusals >= REFUSALS:
                        self._settle()
                    await asyncio.sleep(pause)
                    pause = min(PAUSE_MOST, 2 * pause)

    def renew(self) -> None:
        """What is wanted has changed: list again. `wait` then waits for that."""
        if self._listed.done():
            self._listed = asyncio.get_running_loop().create_future()
        self._renew.set()

    def resume(self) -> None:
        """Begins the watch anew, from where it was: its connection may have died without a word."""
        self._resume.set()

    async def wait(self) -> None:
        """Until everything that is wanted was listed."""
        await asyncio.shield(self._listed)

    async def _list(self) -> None:
        self._renew.clear()
        found, version = await self._list_once()
        if self.values.keys() - found.keys():
            await asyncio.sleep(DOUBT)
            again, version = await self._list_once()
            kept = self.values.keys() & found.keys() - again.keys()
            found = again | {name: found[name] for name in kept}
        self._version = version
        if found != self.values:
            self.values = found
            self._changed()
        if not self._renew.is_set():
            self._settle()

    def _settle(self) -> None:
        if not self._listed.done():
            self._listed.set_result(None)

    async def _list_once(self) -> tuple[dict[str, T], int]:
        found: dict[str, T] = {}
        version = 0
        async for part in self._api.list_all(self._path):
            version = read_version(part)
            for raw in part.get("items") or ():
                value = self._read(raw)
                if value is not None:
                    found[raw["metadata"]["name"]] = value
        return found, version

    async def _watch(self) -> None:
        """Follows until the server ends the watch, it is to be begun anew, or a new list is wanted."""
        self._resume.clear()
        work = (self._follow(), self._renew.wait(), self._resume.wait())
        tasks = following, renewed, _ = tuple(asyncio.create_task(each) for each in work)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if renewed.done():
                self._version = 0
            elif following.done():
                following.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        async for event in self._api.watch(self._path, str(self._version)):
            self._version = max(self._version, read_version(event["object"]))
            self._take(event)

    def _take(self, event: Mapping[str, Any]) -> None:
        raw = event["object"]
        name = raw.get("metadata", {}).get("name")
        match event["type"]:
            case "ADDED" | "MODIFIED":
                value = self._read(raw)
            case "DELETED":
                value = None
            case _:
                return
        if self.values.get(name) == value:
            return
        if value is None:
            del self.values[name]
        else:
            self.values[name] = value
        self._changed()
