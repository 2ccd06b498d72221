"""An open-loop load generator: requests go out when they arrive, whatever became of the ones before.

Cheap on purpose: no task per request, one protocol object per connection, and of an answer's text only the end is read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import cast
from urllib.parse import urlsplit

import httptools

from weighbridge_simulator.conversations import write_messages
from weighbridge_simulator.records import Outcome, Records
from weighbridge_simulator.workload import Arrival

_DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked each time; `headers` are sent besides.

    Sizes go into headers that simulated nodes obey, or, `spelled`, into the body, for gateways that drop such headers.
    A turn of a conversation is spelled in any case, and names its conversation in the header `x-session-id`.
    """

    model: str | None = "sim"
    stream: bool = True
    path: str = "/v1/chat/completions"
    headers: tuple[tuple[str, str], ...] = ()
    spelled: bool = False

    def write(self, arrival: Arrival, number: int, host: str) -> bytes:
        """A request, as bytes. No two numbers ask the same."""
        text = f"question {number}"
        if self.spelled:
            # Four characters a token, and four tokens for the message; "user: " counts.
            text = text.ljust(4 * (arrival.prompt - 4) - len("user: "), "?")
        messages = write_messages(arrival.turns) or [{"role": "user", "content": text}]
        ask: dict[str, object] = {"messages": messages, "stream": self.stream}
        if self.spelled:
            ask["max_tokens"] = arrival.answer
        if self.model is not None:
            ask["model"] = self.model
        if arrival.n > 1:
            ask["n"] = arrival.n
        body = json.dumps(ask).encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"host: {host}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *([] if self.spelled or arrival.turns else [f"x-sim-prompt: {arrival.prompt}"]),
            *([] if self.spelled else [f"x-sim-answer: {arrival.answer}"]),
            *([] if arrival.session is None else [f"x-session-id: {arrival.session}"]),
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Traffic:
    """Sends arrivals to base URLs, each to a random one. `records` fills while it runs.

    `timeout` in seconds is for a whole answer; arrivals beyond `in_flight` open requests are shed.
    """

    def __init__(
        self,
        targets: Sequence[str],
        question: Question,
        clock: Callable[[], float],
        random: Random,
        *,
        in_flight: int = 5000,
        timeout: float = 120.0,
    ) -> None:
        self.records = Records()
        self._targets = [_Target(*_read_target(target)) for target in targets]
        self._question = question
        self._clock = clock
        self._random = random
        self._limit = in_flight
        self._timeout = timeout
        self._began = 0.0
        self._connecting: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()

    async def run(self, arrivals: Iterable[Arrival]) -> Records:
        """Send everything, then wait for what is open."""
        self._began = self._clock()
        try:
            for number, arrival in enumerate(arrivals):
                wait = self._began + arrival.at - self._clock()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif number % 64 == 0:
                    await asyncio.sleep(0)
                self._send(arrival, number)
            while self.records.counts["open"]:
                self._idle.clear()
                await self._idle.wait()
        finally:
            self._close()
        return self.records

    def now(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def _send(self, arrival: Arrival, number: int) -> None:
        row = self.records.open(self.now())
        if self.records.counts["open"] > self._limit:
            self.close(row, "shed", 0, "")
            return
        target = (
            self._targets[self._random.randrange(len(self._targets))] if len(self._targets) > 1 else self._targets[0]
        )
        request = self._question.write(arrival, number, target.name)
        if target.idle:
            target.idle.pop().send(row, request, self._timeout)
            return
        task = asyncio.get_running_loop().create_task(self._connect(target, row, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, target: _Target, row: int, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        make = loop.create_connection(lambda: _Client(self, target), target.host, target.port)
        try:
            _, client = await asyncio.wait_for(make, self._timeout)
        except OSError:
            self.close(row, "lost", 0, "")
        else:
            client.send(row, request, self._timeout)

    def close(self, row: int, outcome: Outcome, status: int, node: str) -> None:
        """Complete a row of the records."""
        self.records.close(row, self.now(), outcome, status, node)
        if not self.records.counts["open"]:
            self._idle.set()

    def _close(self) -> None:
        for task in self._connecting:
            task.cancel()
        for target in self._targets:
            for client in tuple(target.clients):
                client.abort()


class _Target:
    """One base URL and its connections."""

    __slots__ = ("clients", "host", "idle", "name", "port")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.name = f"{host}:{port}"
        self.idle: list[_Client] = []
        self.clients: set[_Client] = set()


class _Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, traffic: Traffic, target: _Target) -> None:
        self._traffic = traffic
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._row = -1
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._node = ""
        self._events = False
        self._any = False
        self._tail = b""

    def send(self, row: int, request: bytes, timeout: float) -> None:
        """Send a request and give it up after `timeout` seconds."""
        self._row = row
        if self._transport is None:
            self._settle("lost")
            return
        self._transport.write(request)
        self._timer = asyncio.get_running_loop().call_later(timeout, self._give_up)

    def abort(self) -> None:
        """Close, whatever is open."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._target.clients.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._target.clients.discard(self)
        if self in self._target.idle:
            self._target.idle.remove(self)
        self._settle("cut" if self._status else "lost")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._settle("cut" if self._status else "lost")
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"x-sim-node" | b"llm_provider-x-sim-node":  # as LiteLLM hands headers on
                self._node = value.decode("latin-1")
            case b"content-type":
                self._events = value.startswith(b"text/event-stream")
            case _:
                pass

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self._any and self._row >= 0:
            self._any = True
            self._traffic.records.first[self._row] = self._traffic.now()
        if self._events:
            self._tail = (self._tail + data[-16:])[-16:]

    def on_message_complete(self) -> None:
        if self._status >= 400:
            outcome: Outcome = "refused"
        else:
            outcome = "cut" if self._events and _DONE not in self._tail else "ok"
        keep = self._parser.should_keep_alive()
        self._settle(outcome)
        if keep and self._transport is not None:
            self._target.idle.append(self)
        else:
            self.abort()

    def _give_up(self) -> None:
        self._timer = None
        self._settle("late")
        self.abort()

    def _settle(self, outcome: Outcome) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._row < 0:
            return
        row, self._row = self._row, -1
        status, node = self._status, self._node
        self._reset()
        self._traffic.close(row, outcome, status, node)


def _read_target(target: str) -> tuple[str, int]:
    parts = urlsplit(target)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"a target is http://HOST:PORT, not {target!r}")
    return parts.hostname, parts.port or 80
