"""A proxy in front of the real kube-apiserver that can lie once or refuse, and that knows what was asked."""

from __future__ import annotations

import asyncio
import json
import ssl
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from support.apiserver import ApiServer

#: Answers instead of the API server; None lets the request through. Gets method, path, and query.
Lie = Callable[[str, str, str], web.Response | None]


class ApiProxy:
    """`async with ApiProxy(server, folder) as proxy:`; `proxy.kubeconfig` leads to it, without TLS."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self._server, self.kubeconfig = server, folder / "proxied"
        self.lie: Lie | None = None
        self._frozen = False
        self.asked: list[tuple[str, str, str]] = []
        self._open: set[asyncio.Task[Any]] = set()
        self._deaf: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    async def __aenter__(self) -> ApiProxy:
        said = yaml.safe_load(self._server.kubeconfig.read_text())
        user, cluster = said["users"][0]["user"], said["clusters"][0]["cluster"]
        trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
        trust.load_cert_chain(user["client-certificate"], user["client-key"])
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=0), auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        said["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        said["users"][0]["user"] = {}
        self.kubeconfig.write_text(yaml.safe_dump(said))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        await self._runner.cleanup()
        await self._http.close()

    def cut(self) -> None:
        """Breaks every watch off."""
        for task in self._open:
            task.cancel()

    def deafen(self) -> None:
        """No watch that is open now tells anything more, nor that it is over: a connection that died without a word."""
        self._deaf.update(self._open)

    def freeze(self) -> None:
        """A network that loses everything: nothing is answered any more, and no connection ends."""
        self.deafen()
        self._frozen = True

    def thaw(self) -> None:
        """New questions are answered again; what was open or asked meanwhile never is."""
        self._frozen = False

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        if self._frozen:
            await asyncio.Event().wait()
        self.asked.append((request.method, request.path, request.query_string))
        lie = self.lie(request.method, request.path, request.query_string) if self.lie else None
        if lie is not None:
            return lie
        url = f"{self._server.url}{request.path_qs}"
        kept = {k: v for k, v in request.headers.items() if k.lower() in ("accept", "content-type", "accept-encoding")}
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            async with self._http.request(
                request.method, url, headers=kept, data=await request.read() or None
            ) as answer:
                passed = web.StreamResponse(status=answer.status)
                for name in ("Content-Type", "Content-Encoding"):
                    if name in answer.headers:
                        passed.headers[name] = answer.headers[name]
                await passed.prepare(request)
                async for chunk in answer.content.iter_any():
                    if task not in self._deaf:
                        await passed.write(chunk)
                return passed
        except aiohttp.ClientError:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._open.discard(task)


def refuse(*_: str) -> web.Response:
    """An API server that is away."""
    return web.Response(status=503, text="away")


def empty(path_end: str, times: int = 1) -> Lie:
    """Answers lists of this resource as if there were none, so many times."""
    left = times

    def lie(method: str, path: str, query: str) -> web.Response | None:
        nonlocal left
        if method != "GET" or not path.endswith(path_end) or "watch=" in query or left == 0:
            return None
        left -= 1
        nothing = {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "999999999"}, "items": []}
        return web.Response(text=json.dumps(nothing), content_type="application/json")

    return lie
