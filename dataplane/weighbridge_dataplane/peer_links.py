"""One connection between two data planes: who made it tells what it sends, who took it listens.

Both say who they are first, so that a process finds itself, and another one that it reaches at two addresses. Whatever
is wrong with one ends it, and nothing else: what is not heard is guessed, as if there were no link.
"""

from __future__ import annotations

import asyncio
import socket as sockets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from weighbridge_dataplane.company import Company
from weighbridge_dataplane.facts import Told
from weighbridge_dataplane.peer_trust import is_peer, read_end
from weighbridge_dataplane.records import Records
from weighbridge_dataplane.words import Hello, WordError, Words, print_hello

STILL = 5.0  # seconds without a word, after which a connection is ended
UNSENT = 64 * 1024  # bytes that somebody does not take, beside what the kernel holds
FRAMES = 500  # of any kind, that one may say in a second, before it has said who it is as well


@dataclass(frozen=True, slots=True)
class Scene:
    """What all links of a process share. `hear` takes what others sent, `say` a line for people."""

    company: Company
    records: Records
    hear: Callable[[tuple[Told, ...]], None]
    say: Callable[[str], None]


class Link(asyncio.Protocol):
    """Either end; `name` is the other's address."""

    def __init__(self, scene: Scene, name: str) -> None:
        self._scene, self.name = scene, name
        self._words = Words()
        self._transport: asyncio.Transport | None = None
        self.hello: Hello | None = None
        self.ended = asyncio.Event()
        self._last = time.monotonic()  # word
        self._until = float("inf")  # seconds since 1970: the other's certificate
        self.made = 0  # by which version of our files
        self._rest = FRAMES  # words that it may still say

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if hasattr(sockets, "TCP_USER_TIMEOUT"):
            # Whoever is gone without a word, with his machine, takes nothing and refuses nothing.
            wire = transport.get_extra_info("socket")
            wire.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, int(1000 * STILL))
        secured = transport.get_extra_info("ssl_object")
        if isinstance(secured, ssl.SSLObject):
            certificate = secured.getpeercert()
            if certificate is None or not is_peer(certificate):
                self.refuse("certificate", "its certificate is no data plane's")
                return
            self._until = read_end(certificate)
        transport.write(print_hello(self._scene.company.own))

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        self._words.give(data)
        self._work()

    def _work(self) -> None:
        """One word a turn of the loop, so that a request waits for no more than that."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            word = self._words.take()
        except WordError as error:
            self.refuse("word", str(error))
            return
        if word is not None:
            self._note(word)
        if self._words.is_empty:
            transport.resume_reading()
        else:
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._work)

    def _note(self, word: Hello | tuple[Told, ...]) -> None:
        self._last = time.monotonic()
        self._rest -= 1
        if self._rest < 0:
            self.refuse("word", "it says too much")
        elif isinstance(word, Hello):
            if self.hello is None:
                self.hello = word
                self.greet(word)
        elif self.hello is not None:
            self.take(word)

    def greet(self, hello: Hello) -> None:
        """The other said who it is."""

    def take(self, told: tuple[Told, ...]) -> None:
        """The other said what it sent."""

    def check(self, now: float, today: float) -> None:
        """Ends it where its time has come; `now` is monotonic, `today` seconds since 1970."""
        self._rest = FRAMES
        if self.ended.is_set():
            return
        if today >= self._until:
            self.refuse("certificate", "its certificate has expired")
        elif self.awaits and now - self._last > STILL:
            self.refuse("still", f"it said nothing for {STILL:g} s")

    @property
    def awaits(self) -> bool:
        """Whether it is the other's turn to say something."""
        return True

    def refuse(self, reason: str, text: str) -> None:
        """Ends it, and says why."""
        self._scene.records.peer_refusals[reason] += 1
        self._scene.say(f"{self.name} is not heard: {text}")
        self.end()

    def end(self) -> None:
        self.ended.set()
        if self._transport is not None:
            self._transport.abort()


class Ear(Link):
    """A connection that was made to us."""

    _twice = False

    def greet(self, hello: Hello) -> None:
        company = self._scene.company
        # Of itself, and of one that is heard already, nobody needs to hear.
        if hello.process == company.own.process or company.hears(hello.process, time.monotonic()):
            self._twice = True
            self.end()
        else:
            company.hear(hello, time.monotonic())

    def take(self, told: tuple[Told, ...]) -> None:
        scene, hello = self._scene, self.hello
        assert hello is not None
        if self._twice:
            return
        scene.company.hear(hello, time.monotonic())
        scene.records.peer_frames["in"] += 1
        if told:
            scene.hear(told)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self.hello is not None and not self._twice:
            self._scene.company.forget(self.hello.process)


class Mouth(Link):
    """A connection that we made. It tells once the other has said who it is; `met` is called then."""

    def __init__(self, scene: Scene, name: str, met: Callable[[Mouth, Hello], None]) -> None:
        super().__init__(scene, name)
        self._met = met
        self.tells = False

    def greet(self, hello: Hello) -> None:
        self._met(self, hello)

    def tell(self, data: bytes) -> None:
        """Writes it; whoever does not take what it is told is told no more."""
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            return
        transport.write(data)
        self._scene.records.peer_frames["out"] += 1
        if transport.get_write_buffer_size() > UNSENT:
            self.refuse("slow", "it does not take what it is told")

    @property
    def awaits(self) -> bool:
        return self.hello is None
