"""Tells the other data planes of the gateway what this one sends, and hears what they send.

Everybody connects to everybody: what is told goes out on connections of one's own, as soon as there is something, and
comes in on others'. Whoever can't be reached, is refused or says nothing is not heard, and it is guessed what it sends.
Nothing here is waited for by a request; no step takes the loop for a millisecond.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket as sockets
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import count

from weighbridge_dataplane.company import Company
from weighbridge_dataplane.facts import Choice, Told
from weighbridge_dataplane.outbox import Outbox
from weighbridge_dataplane.peer_links import Ear, Link, Mouth, Scene
from weighbridge_dataplane.peer_trust import Trust, TrustError, explain
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.records import Levels, Records
from weighbridge_dataplane.words import Hello, print_begun, print_sent

SIGN = 0.5  # seconds between two words where nothing is sent
LOOK = 0.1  # seconds between two looks at who is heard
RESOLVE = 5.0  # seconds between two looks at who there is
TRUST = 2.0  # seconds between two looks at the files
MOST, AT_ONCE = 128, 8  # connections each way; of them, those that are told in one turn of the loop
PATIENCE = 5.0  # seconds for a connection and its handshake
PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds before somebody is tried again, doubling
SAME = 30.0  # seconds before an address is tried again at which one is that is told already
RENEW = 20.0  # seconds within which connections are made anew when the files have changed
QUIET = 30.0  # seconds between two lines about others

log = logging.getLogger("dataplane")
Address = tuple[str, int]


class PeersError(OSError):
    """Nobody can listen there."""


class Peers:
    """`start`, then `run` until cancelled. `targets` are names, each resolved to all who there are."""

    def __init__(
        self, own: Hello, targets: Sequence[Address], trust: Trust | None, pools: Pools, records: Records
    ) -> None:
        self._targets, self._trust, self._pools = targets, trust, pools
        self._company, self._outbox = Company(own), Outbox(untold=records.peer_untold)
        self._scene = Scene(self._company, records, self._hear, self._say)
        self._listening: sockets.socket | None = None
        self._ears: set[Ear] = set()
        self._mouths: dict[Address, Mouth] = {}
        self._keeping: dict[Address, asyncio.Task[None]] = {}
        self._admitting = 0
        self._due: asyncio.TimerHandle | None = None  # the next word
        self._told = float("-inf")
        self._said = float("-inf")

    def start(self, host: str, port: int) -> int:
        """Listens there; the port. Raises PeersError."""
        family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
        listening = sockets.socket(family, sockets.SOCK_STREAM)
        try:
            listening.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(MOST)
        except OSError as error:
            listening.close()
            raise PeersError(f"cannot listen for peers on {host}:{port}: {error.strerror or error}") from error
        listening.setblocking(False)
        self._listening = listening
        return int(listening.getsockname()[1])

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._trust is not None:
                    tasks.create_task(self._follow_trust(self._trust))
                tasks.create_task(self._accept(tasks))
                tasks.create_task(self._follow_addresses(tasks))
                tasks.create_task(self._attend())
        finally:
            if self._due is not None:
                self._due.cancel()
            for link in (*self._ears, *self._mouths.values()):
                link.end()
            if self._listening is not None:
                self._listening.close()

    def note(self, choice: Choice, now: float) -> None:
        """Takes a choice that was made."""
        if choice.member is not None:
            self._outbox.put(choice.member.address, choice.tokens, now, choice.begun)
            if self._due is None:
                self._due = asyncio.get_running_loop().call_later(self._outbox.wait(now) or 0.0, self._tell)

    def measure(self, levels: Levels) -> Levels:
        """With who is heard now."""
        heard = self._company.count(time.monotonic())
        told = sum(mouth.tells for mouth in self._mouths.values())
        return replace(levels, peers=heard.processes, peers_told=told, peer_envoys=heard.envoys)

    def _hear(self, told: tuple[Told, ...]) -> None:
        with self._survive():
            self._pools.hear(told, time.monotonic())

    def _tell(self) -> None:
        """Says what was sent, or that nothing was."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        with self._survive():
            self._told = time.monotonic()
            told = [mouth for mouth in self._mouths.values() if mouth.tells]
            self._outbox.hearers = len(told)
            sent, begun = self._outbox.take(self._told)
            self._tell_some(told, print_sent(sent))
            if told and begun:
                self._tell_some(told, print_begun(begun))

    def _tell_some(self, told: Sequence[Mouth], data: bytes) -> None:
        """The rest in the loop's next turn: a request may have come."""
        with self._survive():
            for mouth in told[:AT_ONCE]:
                mouth.tell(data)
        if len(told) > AT_ONCE:
            asyncio.get_running_loop().call_soon(self._tell_some, told[AT_ONCE:], data)

    async def _attend(self) -> None:
        """Looks who is heard, whose time has come, and whether it is time for a sign of life."""
        for turn in count():
            with self._survive():
                now = time.monotonic()
                self._pools.attend(self._company.count(now))
                for link in (*self._ears, *self._mouths.values()) if turn % 10 == 0 else ():
                    self._check(link, now)
                if now - self._told >= SIGN - LOOK / 2:
                    self._tell()
            await asyncio.sleep(LOOK)

    def _check(self, link: Link, now: float) -> None:
        link.check(now, time.time())
        # What was agreed on with older files goes: an authority may be trusted no more, a key have been stolen.
        if self._trust is not None and link.made != self._trust.version and random.random() < 1 / RENEW:
            link.end()

    async def _accept(self, tasks: asyncio.TaskGroup) -> None:
        assert self._listening is not None
        while True:
            try:
                taken, (host, *_) = await asyncio.get_running_loop().sock_accept(self._listening)
            except OSError:
                await asyncio.sleep(1.0)
                continue
            if self._trust is not None and self._trust.server is None:
                taken.close()
            elif len(self._ears) + self._admitting >= MOST:
                self._scene.records.peer_refusals["many"] += 1
                taken.close()
            else:
                self._admitting += 1
                tasks.create_task(self._admit(taken, host))

    async def _admit(self, taken: sockets.socket, host: str) -> None:
        ear = Ear(self._scene, host)
        ear.made, context = (self._trust.version, self._trust.server) if self._trust is not None else (0, None)
        limit = None if context is None else PATIENCE
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: ear, taken, ssl=context, ssl_handshake_timeout=limit
            )
        except (OSError, ssl.SSLError) as error:
            ear.refuse("certificate", explain(error))
            return
        finally:
            self._admitting -= 1
        self._ears.add(ear)
        try:
            await ear.ended.wait()
        finally:
            self._ears.discard(ear)

    async def _follow_addresses(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            with self._survive():
                found = await self._resolve()
                for address in self._keeping.keys() - found:
                    self._keeping.pop(address).cancel()
                for address in sorted(found - self._keeping.keys())[: MOST - len(self._keeping)]:
                    self._keeping[address] = tasks.create_task(self._keep(address))
            await asyncio.sleep(RESOLVE * (0.8 + 0.4 * random.random()))

    async def _resolve(self) -> set[Address]:
        """All addresses there are; of a name that can't be resolved those that it had."""
        found: set[Address] = set()
        for host, port in self._targets:
            try:
                told = await asyncio.get_running_loop().getaddrinfo(host, port, type=sockets.SOCK_STREAM)
                addresses = {(str(where[0]), port) for *_, where in told}
            except OSError:
                addresses = {address for address in self._keeping if address[1] == port}
            found |= addresses if self._trust is not None else set(filter(is_here, addresses))
            if self._trust is None and not all(map(is_here, addresses)):
                self._say(f"{host} is not told: without --peer-tls only what is on loopback is")
        return found

    async def _keep(self, address: Address) -> None:
        """Tells whoever is at an address, and tries again and again."""
        pause = PAUSE
        while True:
            began = time.monotonic()
            with self._survive():
                same = await self._connect(address)
                pause = PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
                if same:
                    pause = SAME
            await asyncio.sleep(pause * (0.5 + random.random()))

    async def _connect(self, address: Address) -> bool:
        """One connection, to its end; whether there is one that is told already, or this process."""
        trust = self._trust
        if trust is not None and trust.client is None:
            return False
        same: list[bool] = []
        mouth = Mouth(self._scene, address[0], partial(self._meet, same))
        mouth.made, context = (trust.version, trust.client) if trust is not None else (0, None)
        limit = None if context is None else PATIENCE
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().create_connection(
                    lambda: mouth, *address, ssl=context, ssl_handshake_timeout=limit
                )
        except ssl.SSLError as error:
            mouth.refuse("certificate", explain(error))
            return False
        except OSError:  # nobody is there, or no way leads there
            return False
        self._mouths[address] = mouth
        try:
            await mouth.ended.wait()
            return bool(same)
        finally:
            del self._mouths[address]
            mouth.end()

    def _meet(self, same: list[bool], mouth: Mouth, hello: Hello) -> None:
        others = (each.hello for each in self._mouths.values() if each.tells and each.hello is not None)
        if hello.process in {self._company.own.process, *(other.process for other in others)}:
            same.append(True)
            mouth.end()
        else:
            mouth.tells = True

    async def _follow_trust(self, trust: Trust) -> None:
        while True:
            with self._survive():
                try:
                    await asyncio.to_thread(trust.load)
                except TrustError as error:
                    self._say(str(error))
            await asyncio.sleep(TRUST)

    @contextmanager
    def _survive(self) -> Iterator[None]:
        """A fault of ours costs what was to be told."""
        try:
            yield
        except Exception as error:
            self._say(f"telling peers failed with {type(error).__name__}")

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said >= QUIET:
            self._said = now
            log.warning("%s", text)


def is_here(address: Address) -> bool:
    """Whether nobody else can listen on the way."""
    with suppress(ValueError):
        return ip_address(address[0].partition("%")[0]).is_loopback
    return False
