"""What the Envoys of a gateway without a cluster count, asked whenever somebody scrapes the operator.

In a cluster each Envoy is scraped itself: there what it counts must not hang on an operator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

from weighbridge_operator.sources.scrape import FetchError, fetch
from weighbridge_operator.views.traffic import PATH, relay

TIMEOUT: Final = 3.0  # seconds for one Envoy; one that is late is left out of this page
SIZE: Final = 64 * 2**20  # bytes of one Envoy's page
FRESH: Final = 0.5  # seconds for which one page does for all who ask


class Traffic:
    """`await traffic.read()` is the page. `places`: where the statistics of each connected Envoy are."""

    def __init__(self, http: aiohttp.ClientSession, places: Callable[[], Mapping[str, str]]) -> None:
        self._http, self._places = http, places
        self._asking = asyncio.Lock()
        self._at, self._page = -FRESH, ""

    async def read(self) -> str:
        """What they say now; nothing of those that do not answer."""
        async with self._asking:
            if time.monotonic() - self._at >= FRESH:
                places = self._places()
                texts = await asyncio.gather(*(self._ask(url) for url in places.values()))
                pages = {envoy: text for envoy, text in zip(places, texts, strict=True) if text is not None}
                # A page of a thousand models is megabytes: not in the loop that serves xDS.
                self._page = await asyncio.to_thread(relay, pages)
                self._at = time.monotonic()
            return self._page

    async def _ask(self, url: str) -> str | None:
        try:
            page = await fetch(self._http, url + PATH, time.monotonic, timeout=TIMEOUT, size=SIZE)
        except FetchError:
            return None
        return page.text.decode(errors="replace")
