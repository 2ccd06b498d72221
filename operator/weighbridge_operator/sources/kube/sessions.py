"""kopf's connection to the API server, with a pace of its own.

A watch that ends at once, of a proxy that cannot stream, kopf begins anew at once, hundreds of times a second. And
credentials that were refused once it never tries again, although an API server that is starting refuses good ones.
https://docs.kopf.dev/en/stable/authentication/#custom-http-sessions
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import aiohttp
import kopf

SHORTEST = 0.5  # seconds between two watches of the same objects, and before credentials are read anew


class Pace:
    """A middleware of aiohttp's. What lasts longer than the shortest time is never held up."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}  # path -> when its last watch began

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Passes the request on, when it is time."""
        path = request.url.raw_path
        if "watch" in request.url.query:
            await asyncio.sleep(self._begun.get(path, 0.0) + SHORTEST - time.monotonic())
            self._begun[path] = time.monotonic()
        answer = await handler(request)
        if answer.status == 401:
            await asyncio.sleep(SHORTEST)
        return answer


async def log_in(**keywords: Any) -> kopf.AiohttpSession | None:
    """A handler for kopf, called at its start and after each refusal: KUBECONFIG, else the pod's service account."""
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
        middlewares=(Pace(),),
    )
    return kopf.AiohttpSession(
        aiohttp_session=session, server=found.server, default_namespace=found.default_namespace, priority=found.priority
    )
