"""The entries of Secrets that are referenced, read by name: no right to list or watch Secrets is needed.

Each is asked for again every 10 s, so that a rotation is noticed within that time; with more than 200 Secrets 20 a
second are asked, and it takes longer. One that is gone is given up when a second look says so as well.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from typing import Any

from weighbridge_operator.sources.kube.access import Api, ApiError
from weighbridge_operator.sources.kube.gathering import Key, Wanted

Entries = frozenset[str] | None  # of a Secret: those that are referenced; None: every one
PERIOD = 10.0  # seconds
RATE = 20.0  # Secrets a second at most
AT_ONCE = 8  # that are looked at for the first time
PAUSE = 1.0  # seconds after a failure, and until an absence is looked at again
REFUSALS = 5  # in a row, after which a right is taken to be lacking
log = logging.getLogger("weighbridge.kubernetes")


class Secrets:
    """Keeps the entries that are wanted and nothing else; `changed` is told when any of them changes."""

    def __init__(self, api: Api, changed: Callable[[], None]) -> None:
        self._api, self._changed = api, changed
        self._wanted: Wanted = {}
        self._values: dict[Key, Mapping[str, bytes]] = {}
        self._missing: set[Key] = set()  # looked for once in vain, though it was there before
        self._doubted: dict[Key, int] = {}  # refused so many times in a row
        self._known: dict[Key, Entries] = {}  # which entries were asked for, successfully or not

    @property
    def values(self) -> Mapping[Key, Mapping[str, bytes]]:
        return dict(sorted(self._values.items()))

    async def want(self, wanted: Wanted) -> None:
        """Follows these from now on; returns when all of them are known, or known not to exist."""
        self._wanted = wanted
        for kept in (self._values, self._doubted, self._known):
            for key in kept.keys() - wanted.keys():
                del kept[key]
        self._missing &= wanted.keys()
        places = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._learn(key, wanted, places) for key in sorted(wanted)))

    async def _learn(self, key: Key, wanted: Wanted, places: asyncio.Semaphore) -> None:
        async with places:
            while self._wanted is wanted and not (key in self._known and self._known[key] == wanted[key]):
                await self._try(key)

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        while True:
            keys = sorted(self._wanted)
            pause = max(PERIOD / max(1, len(keys)), 1 / RATE)
            for key in keys:
                if key in self._wanted:
                    await self._try(key)
                await asyncio.sleep(pause)
            if not keys:
                await asyncio.sleep(PAUSE)

    async def _try(self, key: Key) -> None:
        if key not in self._wanted:
            return  # while an absence was waited for, what named it went, too: a namespace is deleted like that
        entries = self._wanted[key]
        try:
            raw = await self._api.get(f"/api/v1/namespaces/{key[0]}/secrets/{key[1]}")
        except ApiError as error:
            if error.status not in (403, 404):
                log.warning("Secret %s/%s: %s; what is known of it stays", *key, error)
                await asyncio.sleep(PAUSE)
                return
            if error.status == 403:
                await self._refuse(key, str(error))
            elif key in self._values and key not in self._missing:
                self._missing.add(key)
                await asyncio.sleep(PAUSE)
                await self._try(key)
            else:
                self._set(key, None)
        else:
            self._set(key, _decode(raw, entries))
        if key in self._wanted and key not in self._doubted:
            self._known[key] = entries

    async def _refuse(self, key: Key, words: str) -> None:
        """A right that is lacking is no deletion, and an API server that starts refuses everything at first."""
        count = self._doubted.get(key, 0)
        if count == 0:
            log.warning("Secret %s/%s may not be read: %s", *key, words)
        if count < REFUSALS:
            self._doubted[key] = count + 1
            await asyncio.sleep(PAUSE)
        else:
            del self._doubted[key]

    def _set(self, key: Key, values: Mapping[str, bytes] | None) -> None:
        if key not in self._wanted:
            return
        before = self._values.pop(key, None)
        self._missing.discard(key)
        self._doubted.pop(key, None)
        if values is not None:
            self._values[key] = values
        if before != values:
            self._changed()


def _decode(raw: Mapping[str, Any], entries: Entries) -> Mapping[str, bytes]:
    data = raw.get("data") or {}
    found = {}
    for entry in sorted(data if entries is None else entries & data.keys()):
        try:
            found[entry] = base64.b64decode(data[entry], validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found
