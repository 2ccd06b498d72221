"""The loop that turns an engine's events into answers on the wire.

As with vLLM, the head of a streamed answer is sent before the first token. A client that goes away ends the node's
work. One timer waits for the engine's next event, one for the next tokens of streams that are written piece by piece,
and one for the next request of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from random import Random
from typing import assert_never

from weighbridge_simulator.answers import EVENTS, JSON, write_error
from weighbridge_simulator.ask import Ask, RefusalError
from weighbridge_simulator.engine import Job
from weighbridge_simulator.node import Node
from weighbridge_simulator.prefix import name_blocks
from weighbridge_simulator.protocol import Exchange
from weighbridge_simulator.workload import Sizes
from weighbridge_simulator.writing import Answer, write_answer

_FLOOD_MAXIMUM = 10_000  # sequences that wait; more of others' load would only cost memory
_CACHE_MAXIMUM = 256
_GRAIN = 0.0005  # seconds; uvloop rounds to whole milliseconds, and waking early would mean to wake twice
_PUMP_LEAST = 0.004  # seconds between two looks at the streams
_PUMP_STANDING = 0.05  # the same while the engine stands still


class Serving:
    """A request while the engine works on it. `sent` counts tokens that were written."""

    __slots__ = ("_write", "answer", "ask", "dies", "exchange", "job", "sent")

    def __init__(self, exchange: Exchange, ask: Ask, write: Callable[[Ask], Answer], job: Job, dies: bool) -> None:
        self.exchange = exchange
        self.ask = ask
        self._write = write
        self.answer = write(ask)
        self.job = job
        self.dies = dies
        self.sent = 0

    def note_cached(self) -> None:
        """Let the answer tell what of the prompt was not read anew."""
        if self.job.cached:
            self.answer = self._write(replace(self.ask, cached=self.job.cached))


class Generation:
    """Serves what was asked of one node. `clock` counts seconds and never goes back; `today` is Unix time."""

    def __init__(self, node: Node, clock: Callable[[], float], today: Callable[[], float], random: Random) -> None:
        self._node = node
        self._clock = clock
        self._today = today
        self._random = random
        self._timer: asyncio.TimerHandle | None = None
        self._woken = inf  # the moment that the timer waits for
        self._pump_timer: asyncio.TimerHandle | None = None
        self._flood_timer: asyncio.TimerHandle | None = None
        self._streams: dict[Job, Serving] = {}
        self._constants: dict[Ask, tuple[bytes, bytes]] = {}  # answers with their content types

    def stop(self) -> None:
        """Stop all timers."""
        for timer in (self._timer, self._pump_timer, self._flood_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._pump_timer = self._flood_timer = None

    def serve(self, exchange: Exchange, ask: Ask, dies: bool) -> None:
        """Answer when the engine has. `dies`: be gone after the first token. RefusalError if it could never fit."""
        now, engine = self._clock(), self._node.engine
        blocks = name_blocks(ask) if engine.spec.prefix_caching else ()
        job = Job(ask.prompt, ask.answer, ask.sequences, blocks=blocks)
        if not engine.fits(job):
            room = f"{engine.spec.kv_tokens} tokens and {engine.spec.sequences} sequences"
            raise RefusalError(
                400,
                f"It needs {job.kv} tokens and {job.n} sequences; there are {room}.",
                None,
                "context_length_exceeded",
            )
        ident, created = f"{self._random.getrandbits(96):024x}", int(self._today())
        job.tag = Serving(exchange, ask, lambda told: write_answer(told, ident, created), job, dies)
        exchange.gone = partial(self._leave, job)
        if ask.stream:
            exchange.start(EVENTS if ask.events else JSON)
        self._node.submit(job, now)
        self.arm()

    def answer_at_once(self, exchange: Exchange, ask: Ask) -> None:
        """Answer without an engine, always the same to the same shape of question."""
        ask = replace(ask, seeds=(0,) * len(ask.seeds), text=b"")
        known = self._constants.get(ask)
        if known is None:
            answer = write_answer(ask, "0" * 24, int(self._today()))
            if ask.stream:
                body = answer.opening() + answer.piece(0, ask.answer) + answer.closing()
                known = body, EVENTS if ask.events else JSON
            else:
                known = answer.whole(), answer.kind
            if len(self._constants) >= _CACHE_MAXIMUM:
                self._constants.clear()
            self._constants[ask] = known
        if ask.stream:
            exchange.stream(known[1], known[0])
        else:
            exchange.reply(200, *known)

    def _leave(self, job: Job) -> None:
        self._streams.pop(job, None)
        self._node.cancel(job, self._clock())
        self.arm()

    def arm(self) -> None:
        """Wake when the engine has something to tell. A timer that is early enough is left as it is."""
        due = self._node.engine.next_event()
        if due == inf:
            return
        if self._timer is not None:
            if self._woken <= due:
                return
            self._timer.cancel()
        self._woken = due
        pause = max(0.0, due - self._clock()) + _GRAIN
        self._timer = asyncio.get_running_loop().call_later(pause, self._wake)

    def _wake(self) -> None:
        self._timer = None
        for job, kind, _ in self._node.advance(self._clock()):
            serving = job.tag
            if not isinstance(serving, Serving):
                continue
            match kind:
                case "first":
                    self._first(serving)
                case "end":
                    self._end(serving)
                case "refused":
                    self._drop(serving)
                case _:
                    assert_never(kind)
        self.arm()

    def _first(self, serving: Serving) -> None:
        exchange, ask = serving.exchange, serving.ask
        serving.note_cached()
        if serving.dies:
            if ask.stream:
                exchange.send(serving.answer.opening() + serving.answer.piece(0, 1))
            exchange.cut()
        elif ask.stream and serving.job.place == "decoding":
            serving.sent = 1
            exchange.send(serving.answer.opening() + serving.answer.piece(0, 1))
            if self._node.spec.every:
                self._streams[serving.job] = serving
                self._arm_pump()

    def _end(self, serving: Serving) -> None:
        exchange, ask, answer = serving.exchange, serving.ask, serving.answer
        self._streams.pop(serving.job, None)
        if ask.stream:
            opening = b"" if serving.sent else answer.opening()
            exchange.finish(opening + answer.piece(serving.sent, ask.answer) + answer.closing())
        else:
            exchange.reply(200, answer.whole(), answer.kind)

    def _drop(self, serving: Serving) -> None:
        if serving.ask.stream:
            serving.exchange.cut()
        else:
            serving.exchange.reply(
                503, write_error(RefusalError(503, "The node became too small for it."), serving.ask.operation)
            )

    def _arm_pump(self) -> None:
        if self._pump_timer is None and self._streams:
            step = self._node.engine.step_seconds
            pause = max(_PUMP_LEAST, step * self._node.spec.every) if step else _PUMP_STANDING
            self._pump_timer = asyncio.get_running_loop().call_later(pause, self._pump)

    def _pump(self) -> None:
        """Write the tokens that have come since, in whole chunks."""
        self._pump_timer = None
        now, engine, every = self._clock(), self._node.engine, self._node.spec.every
        for serving in tuple(self._streams.values()):
            ready = engine.produced(serving.job, now)
            ready -= ready % every
            if ready > serving.sent and serving.exchange.writable:
                serving.exchange.send(serving.answer.piece(serving.sent, ready))
                serving.sent = ready
        self._arm_pump()

    def flood(self) -> None:
        """Let the next request of others arrive when it does."""
        if self._flood_timer is not None:
            self._flood_timer.cancel()
            self._flood_timer = None
        rate = self._node.control.flood
        if rate > 0:
            pause = self._random.expovariate(rate)
            self._flood_timer = asyncio.get_running_loop().call_later(pause, self._flood_one)

    def _flood_one(self) -> None:
        self._flood_timer = None
        now, engine = self._clock(), self._node.engine
        job = Job(*Sizes().draw(self._random), external=True)
        if engine.fits(job) and engine.sample(now).waiting < _FLOOD_MAXIMUM:
            self._node.submit(job, now)
            self.arm()
        self.flood()
