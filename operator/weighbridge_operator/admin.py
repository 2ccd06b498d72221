"""The operator's own small HTTP server: what it knows of itself, for people, probes and Prometheus. It changes nothing.

Answers are made once for each report, however many ask. Loopback is for the caller to choose and the default.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter

from weighbridge_operator.latest import Latest
from weighbridge_operator.report import ObjectReport, Report
from weighbridge_operator.views import metrics, words
from weighbridge_operator.views.groups import NODE

LINE, HEADER, HEADERS = 2048, 4096, 64  # bytes of the request line, of a header; how many headers
KEEPALIVE: Final = 75.0  # seconds, above Prometheus' and kubelet's intervals
LISTED: Final = 20  # names in an answer that says what exists
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
SECURITY: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class AddressUnavailableError(OSError):
    """The address can't be bound; the message names it."""


class Admin:
    """Serves /status, /explain, /metrics, /healthz and /readyz from the newest report.

    `traffic` is what the Envoys count, for /metrics, asked when somebody wants it. `envoy`: where there is
    one of its own, whether that serves; without it the gateway is not ready. `choices`: where there is a data plane of
    its own, what that tells at /choices for a query.
    """

    envoy: Latest[bool] | None = None
    choices: Callable[[str], Awaitable[tuple[int, bytes]]] | None = None

    def __init__(self, reports: Latest[Report], traffic: Callable[[], Awaitable[str]] | None = None) -> None:
        self._reports, self._traffic = reports, traffic
        self._codec: TypeAdapter[Report] = TypeAdapter(Report)
        self._made: dict[str, tuple[int, bytes]] = {}  # page -> the report's version, body
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens and answers the port (port 0 takes a free one). Raises AddressUnavailableError."""
        app = web.Application(middlewares=[_bound], client_max_size=0)
        for path, handler in (
            ("/status", self._status),
            ("/explain", self._explain),
            ("/choices", self._choices),
            ("/metrics", self._metrics),
            ("/healthz", self._alive),
            ("/readyz", self._ready),
        ):
            app.router.add_get(path, handler)
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            max_line_size=LINE,
            max_field_size=HEADER,
            max_headers=HEADERS,
            lingering_time=0,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            reason = "is another process using the port? Choose another with --admin" if error.errno else str(error)
            raise AddressUnavailableError(f"cannot listen on {host}:{port}: {reason}") from error
        self._runner = runner
        bound: int = runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Ends every connection and frees the port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _status(self, _: web.Request) -> web.Response:
        report = self._reports.get()
        if report is None:
            return _refuse(503, "no report yet: the first one follows the first list of objects")
        return _json(self._make("status", lambda: self._codec.dump_json(report)))

    async def _explain(self, request: web.Request) -> web.Response:
        report = self._reports.get()
        if report is None:
            return _refuse(503, "no report yet: the first one follows the first list of objects")
        wanted = request.query.get("node")
        nodes = tuple(o for o in report.objects if o.kind == NODE)
        found = tuple(o for o in nodes if wanted in (None, o.name, f"{o.namespace}/{o.name}"))
        if not found and wanted is not None:
            return _refuse(404, f"no ModelNode {wanted!r}; there are {_list(nodes)}")
        page = self._codec.dump_python(_narrow(report, found), mode="json")
        return web.json_response(page | {"explanations": [_explanation(o) for o in found]}, headers=dict(SECURITY))

    async def _choices(self, request: web.Request) -> web.Response:
        if self.choices is None:
            return _refuse(404, "this operator runs no data plane: ask those beside the Envoys, with --dataplane-url")
        status, body = await self.choices(request.rel_url.raw_query_string)
        return web.Response(status=status, body=body, content_type="application/json", headers=dict(SECURITY))

    async def _metrics(self, _: web.Request) -> web.Response:
        body = self._make("metrics", lambda: metrics.expose(self._reports.get(), program_version()).encode())
        if self._traffic is not None:
            body += (await self._traffic()).encode()
        return web.Response(body=body, headers={"Content-Type": EXPOSITION, **dict(SECURITY)})

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        report = self._reports.get()
        if report is None:
            return web.Response(status=503, text="not ready: no report yet\n")
        if report.version is None:
            return web.Response(status=503, text="not ready: no configuration yet: objects or load are not read\n")
        if self.envoy is not None and not self.envoy.get():
            return web.Response(status=503, text="not ready: Envoy does not serve yet, or was ended and starts again\n")
        return web.Response(text="ok\n")

    def _make(self, page: str, build: Any) -> bytes:
        newest, known = self._reports.version, self._made.get(page)
        if known is None or known[0] != newest:
            known = self._made[page] = (newest, build())
        return known[1]


def program_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("weighbridge")
    except PackageNotFoundError:
        return "unknown"


@web.middleware
async def _bound(request: web.Request, handler: Any) -> web.StreamResponse:
    if request.method not in ("GET", "HEAD"):
        response: web.StreamResponse = _refuse(405, f"{request.method} does nothing here: GET and HEAD only")
        response.headers["Allow"] = "GET, HEAD"
        response.force_close()
        return response
    if request.body_exists:
        response = _refuse(413, "a request here has no body")
        response.force_close()
        return response
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except web.HTTPNotFound:
        return _refuse(404, "there are /status, /explain, /choices, /metrics, /healthz and /readyz")


def _narrow(report: Report, nodes: tuple[ObjectReport, ...]) -> Report:
    pools = {e.pool for node in nodes for e in node.endpoints}
    return replace(report, objects=nodes, pools=tuple(p for p in report.pools if p.name in pools))


def _explanation(node: ObjectReport) -> dict[str, Any]:
    endpoints = [
        {
            "pool": e.pool,
            "name": e.name,
            "reason": words.reason_of(node, e),
            "arithmetic": [words.arithmetic(part) for part in e.parts],
        }
        for e in node.endpoints
    ]
    reason = words.reason_of(node, None) if not node.endpoints else None
    return {"node": f"{node.namespace}/{node.name}", "ready": node.ready, "reason": reason, "endpoints": endpoints}


def _list(nodes: tuple[ObjectReport, ...]) -> str:
    names = ", ".join(f"{o.namespace}/{o.name}" for o in nodes[:LISTED])
    more = f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else ""
    return f"{names}{more}" if names else "none"


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=dict(SECURITY))


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=dict(SECURITY))
