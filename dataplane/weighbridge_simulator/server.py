"""A node's sockets and paths: APIs under the base path, /health, /metrics, and /sim for what is done to the node.

A frozen node accepts and says nothing, except under /sim; what was asked meanwhile is answered when it goes on.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from weighbridge_simulator.answers import write_error, write_models
from weighbridge_simulator.ask import Operation, RefusalError
from weighbridge_simulator.control import ControlError, Fail
from weighbridge_simulator.engine import Engine
from weighbridge_simulator.exposition import TEXT
from weighbridge_simulator.generation import Generation
from weighbridge_simulator.node import Node, NodeSpec
from weighbridge_simulator.pages import HEALTH
from weighbridge_simulator.protocol import Connection, Exchange, Handler
from weighbridge_simulator.questions import find_operation, read_question
from weighbridge_simulator.turns import write_count

#: Gemini's version in the path; the other APIs are at v1.
_GEMINI = "/v1beta"
_KEY_HEADERS: Mapping[Operation | None, tuple[bytes, bytes]] = {
    "message": (b"x-api-key", b""),
    "content": (b"x-goog-api-key", b""),
}


class NodeServer:
    """One node on its ports. `clock` counts seconds and never goes back; `today` is Unix time."""

    def __init__(self, spec: NodeSpec, clock: Callable[[], float], today: Callable[[], float]) -> None:
        self.spec = spec
        self.node = Node(spec, clock())
        self.port = spec.port
        self.machine_port = spec.machine_port
        self.gpu_port = spec.gpu_port
        self.peers: Mapping[str, NodeServer] = {spec.name: self}
        self._clock = clock
        self._random = Random(spec.seed)
        self._fixed = b"x-sim-node: %b\r\n" % spec.name.encode()
        self._connections: set[Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._parked: list[Exchange] = []
        self._models = write_models(spec.models, int(today()))
        self._generation = Generation(self.node, clock, today, self._random)
        self._switching: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine:
        """The node's engine."""
        return self.node.engine

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen. OSError if a port is taken."""
        spec, tls = self.spec, None
        if spec.tls_cert is not None and spec.tls_key is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(spec.tls_cert, spec.tls_key)
        try:
            self.port = await self._listen(self._handle, self.port, tls)
            if self.machine_port is not None:
                page = partial(self._page, self.node.machine_page)
                self.machine_port = await self._listen(page, self.machine_port, None)
            if self.gpu_port is not None:
                self.gpu_port = await self._listen(partial(self._page, self.node.gpu_page), self.gpu_port, None)
        except OSError:
            self._close()
            raise
        self._generation.flood()

    async def stop(self) -> None:
        """Close everything; clients see resets."""
        self._generation.stop()
        if self._switching is not None and self._switching is not asyncio.current_task():
            self._switching.cancel()
        self._close()
        await asyncio.sleep(0)

    def control(self, patch: object) -> None:
        """Change the node while it runs. ControlError if the patch makes no sense."""
        before = self.node.control
        self.node.change(patch, self._clock())
        after = self.node.control
        if after.freeze != "all" and before.freeze == "all":
            parked, self._parked = self._parked, []
            for exchange in parked:
                self._handle(exchange)
        if after.flood != before.flood:
            self._generation.flood()
        if after.down != before.down:
            self._switching = asyncio.get_running_loop().create_task(self._switch())
        self._generation.arm()

    def state(self) -> dict[str, Any]:
        """All that there is to know, as JSON."""
        ports = {"port": self.port, "machine_port": self.machine_port, "gpu_port": self.gpu_port}
        return {**self.node.state(self._clock()), **ports, "connections": len(self._connections)}

    async def _switch(self) -> None:
        if self.node.control.down:
            self._close()
        elif not self._listeners:
            await self.start()

    async def _listen(self, handler: Handler, port: int, tls: ssl.SSLContext | None) -> int:
        loop = asyncio.get_running_loop()
        make = partial(Connection, handler, self._fixed, self._connections)
        server = await loop.create_server(make, self.spec.host, port, ssl=tls, backlog=4096)
        self._listeners.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _close(self) -> None:
        for server in self._listeners:
            server.close()
        self._listeners.clear()
        for connection in tuple(self._connections):
            connection.reset()

    def _page(self, text: Callable[[float], str], exchange: Exchange) -> None:
        if exchange.path == "/metrics":
            exchange.reply(200, text(self._clock()).encode(), TEXT)
        else:
            self._refuse(exchange, RefusalError(404, f"There is no {exchange.path} here; there is /metrics."))

    def _handle(self, exchange: Exchange) -> None:
        path = exchange.path
        try:
            if path.startswith("/sim/"):
                self._simulation(exchange)
            elif self.node.control.freeze == "all":
                self._parked.append(exchange)
                exchange.gone = partial(self._unpark, exchange)
            elif path == HEALTH.get(self.spec.engine, "/health"):
                exchange.reply(200, b"", b"text/plain")
            elif path == "/metrics":
                exchange.reply(200, self.node.page(self._clock()).encode(), TEXT)
            else:
                self._api(exchange)
        except RefusalError as refusal:
            self._refuse(exchange, refusal)

    def _unpark(self, exchange: Exchange) -> None:
        if exchange in self._parked:
            self._parked.remove(exchange)

    def _refuse(self, exchange: Exchange, refusal: RefusalError) -> None:
        exchange.reply(refusal.status, write_error(refusal))

    def _simulation(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "GET", "/sim/state":
                state = self.state() if len(self.peers) < 2 else {**self.state(), "peers": sorted(self.peers)}
                exchange.reply(200, json.dumps(state).encode())
            case "POST", "/sim/control":
                self._control(exchange)
            case _:
                raise RefusalError(404, "There are GET /sim/state and POST /sim/control.")

    def _control(self, exchange: Exchange) -> None:
        try:
            patch = json.loads(exchange.body or b"{}")
            target = self
            if isinstance(patch, dict) and "node" in patch:
                name = patch.pop("node")
                if name not in self.peers:
                    raise ControlError(f"node: there is no {name!r}; there are {', '.join(sorted(self.peers))}")
                target = self.peers[name]
            target.control(patch)
        except ControlError as error:
            raise RefusalError(400, str(error)) from None
        except ValueError:
            raise RefusalError(400, "The body is not valid JSON.") from None
        exchange.reply(200, json.dumps(target.state()).encode())

    def _api(self, exchange: Exchange) -> None:
        spec = self.spec
        if (
            spec.insisted_host is not None
            and exchange.headers.get(b"host", b"").decode("latin-1") != spec.insisted_host
        ):
            raise RefusalError(421, f"This server is {spec.insisted_host} and nobody else.")
        base = _GEMINI if spec.base == "/v1" and exchange.path.startswith(_GEMINI + "/") else spec.base
        if not exchange.path.startswith(base + "/"):
            raise RefusalError(404, f"There is no {exchange.path} here; the base path is {spec.base}.")
        rest = exchange.path[len(base) :]
        operation = find_operation(rest)
        try:
            self._check_key(operation, exchange)
            if operation is not None:
                if exchange.method != "POST":
                    raise RefusalError(405, f"{exchange.path} takes POST.")
                self._ask(operation, rest, exchange)
            elif rest == "/models":
                exchange.reply(200, self._models)
            else:
                raise RefusalError(404, f"There is no {exchange.path} here.")
        except RefusalError as refusal:
            exchange.reply(refusal.status, write_error(refusal, operation or "chat"))

    def _check_key(self, operation: Operation | None, exchange: Exchange) -> None:
        """Each API wants the key in a header of its own."""
        if self.spec.key is None:
            return
        key = self.spec.key.encode()
        header, wanted = _KEY_HEADERS.get(operation, (b"authorization", b"Bearer " + key))
        if exchange.headers.get(header) != (wanted or key):
            raise RefusalError(401, "The API key is missing or wrong.", code="invalid_api_key")

    def _ask(self, operation: Operation, path: str, exchange: Exchange) -> None:
        spec, fail = self.spec, self.node.control.fail
        if fail is not None and self._random.random() >= fail.share:
            fail = None
        headers = exchange.headers
        ask = read_question(operation, path, exchange.query, exchange.body, headers, spec.answer, spec.longest)
        known = ask.model in self.node.served
        self.node.requests[ask.model if known else "other"] += 1
        if fail is not None and fail.kind != "die":
            self._fail(exchange, fail)
        elif not known:
            raise RefusalError(404, f"The model `{ask.model}` does not exist.", "model", "model_not_found")
        elif ask.counts:
            exchange.reply(200, write_count(ask))
        elif spec.zero:
            self._generation.answer_at_once(exchange, ask)
        else:
            self._generation.serve(exchange, ask, fail is not None)

    def _fail(self, exchange: Exchange, fail: Fail) -> None:
        if fail.kind == "reset":
            exchange.reset()
        else:
            raise RefusalError(fail.status, "Made to fail.")
