"""kopf's connection to the API server, with a pace and a patience of its own.

A watch that ends at once, of a proxy that cannot stream, kopf begins anew at once, hundreds of times a second. And
credentials that were refused once it never tries again, although an API server that is starting refuses good ones.

What else an API server refuses while it starts (503 and 404 until it has all its paths, 403 until it has read its
roles, 429 while it is flooded) is the end of kopf as a whole when it comes twice within its tries, and of what it does
not find in its first look it says nothing and never looks for it again. Hence such an answer never reaches it: the
question is asked again until there is a better one. A watch then goes on from the version where it was.
https://docs.kopf.dev/en/stable/authentication/#custom-http-sessions
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import aiohttp
import kopf

from weighbridge_api.base import GROUP, VERSION
from weighbridge_operator.sources.kube.access import REFUSAL, explain

SHORTEST = 0.5  # seconds between two tries of a watch or of what was refused, and before credentials are read anew
PASSING = frozenset({403, 404, 429})  # what an API server answers that is starting or flooded, beside 5xx


class Sessions:
    """Logs kopf in. `plurals` are the kinds that it has to find; `say` is told why it waits. In kopf's loop alone."""

    def __init__(self, plurals: Collection[str], say: Callable[[str], None]) -> None:
        self._plurals, self._say = frozenset(plurals), say
        self._begun: dict[str, float] = {}  # path -> when its last watch began
        self._watches: weakref.WeakSet[aiohttp.ClientResponse] = weakref.WeakSet()
        self._opened: list[aiohttp.ClientSession] = []

    async def log_in(self, **keywords: Any) -> kopf.AiohttpSession | None:
        """A handler for kopf, called at its start and after each 401: KUBECONFIG, else the pod's service account."""
        if os.environ.get("KUBECONFIG") or "KUBERNETES_SERVICE_HOST" not in os.environ:
            found = kopf.login_with_kubeconfig(**keywords)
        else:
            found = kopf.login_with_service_account(**keywords)
        if found is None:
            return None
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
            headers=found.as_http_headers(),
            proxy=found.proxy_url,
            trust_env=found.trust_env,
            middlewares=(self._ask,),
        )
        self._opened = [*(each for each in self._opened if not each.closed), session]
        return kopf.AiohttpSession(
            aiohttp_session=session,
            server=found.server,
            default_namespace=found.default_namespace,
            priority=found.priority,
        )

    def renew(self) -> None:
        """Breaks every watch off: kopf begins it anew, on a new connection, and misses nothing."""
        for answer in list(self._watches):
            answer.close()

    async def close(self) -> None:
        """Closes what kopf, cut short, has left open."""
        for session in self._opened:
            await session.close()

    async def _ask(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """A middleware of aiohttp's: asks until there is an answer that kopf can live with."""
        watching = "watch" in request.url.query
        while True:
            if watching:
                await self._hold_up(request.url.raw_path)
            answer = await handler(request)
            if answer.status == 401:
                await asyncio.sleep(SHORTEST)
                return answer
            fault = await self._find_fault(request.url.raw_path, answer)
            if not fault:
                if watching:
                    self._watches.add(answer)
                return answer
            self._say(fault)
            answer.close()
            await asyncio.sleep(0.0 if watching else SHORTEST)

    async def _hold_up(self, path: str) -> None:
        # What lasts longer than the shortest time is never held up.
        await asyncio.sleep(self._begun.get(path, 0.0) + SHORTEST - time.monotonic())
        self._begun[path] = time.monotonic()

    async def _find_fault(self, path: str, answer: aiohttp.ClientResponse) -> str:
        """Why the answer is not the API server's last word; empty where it is. The body stays to be read."""
        if answer.status in PASSING or answer.status >= 500:
            return f"{path}: {explain(answer.status, await _read_start(answer))}"
        kind, wanted = {
            "/apis": ("groups", frozenset({GROUP})),
            f"/apis/{GROUP}/{VERSION}": ("resources", self._plurals),
        }.get(path, ("", frozenset[str]()))
        missing = sorted(wanted - await _read_names(answer, kind)) if wanted else ()
        return f"{path} does not list {', '.join(missing)} yet" if missing else ""


async def _read_start(answer: aiohttp.ClientResponse) -> bytes:
    with suppress(aiohttp.ClientError):
        return await answer.content.read(REFUSAL)
    return b""


async def _read_names(answer: aiohttp.ClientResponse, kind: str) -> frozenset[str]:
    with suppress(ValueError, KeyError, TypeError):
        return frozenset(each["name"] for each in json.loads(await answer.read())[kind])
    return frozenset()
