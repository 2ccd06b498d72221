"""Host names to IP literals, which is all that Envoy's endpoint updates take.

Sticky: a name keeps its address while that is still among the answers, so that a round-robin DNS server does not move
requests at every look-up; else the smallest IPv4 address, else the smallest IPv6 one. A look-up that fails keeps the
last answer and says so. Look-ups block, so they run in threads, few at once; these are daemons, because one that hangs
(half a minute with the system's settings) must not hold up the end of the process. A name whose look-up hangs is not
asked again before it ends, and the others are published without it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread

from weighbridge_operator.latest import Latest

PERIOD = 5.0  # seconds between look-ups of the same name
SOON = 0.2  # seconds after which the names that are known are published without the others
PATIENCE = 3.0  # seconds after which a look-up counts as failed
THREADS = 8

#: Answers every address of a name; raises OSError. Runs in a thread.
LookUp = Callable[[str], Iterable[str]]
Answer = tuple[str, ...] | OSError | UnicodeError


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is known of the names asked for."""

    addresses: Mapping[str, str] = field(default_factory=dict)  # host -> IP literal; an unknown one is absent
    findings: Mapping[str, str] = field(default_factory=dict)  # host -> what is wrong with its look-up, in words


def look_up(host: str) -> Iterable[str]:
    """The system's answer."""
    return {str(answer[4][0]) for answer in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}


def look_up_now(hosts: Iterable[str]) -> Mapping[str, str]:
    """One blocking look at each name, for commands that run once; unknown ones are absent."""
    names = sorted(set(hosts))
    with ThreadPoolExecutor(THREADS) as threads:
        answers = dict(zip(names, threads.map(_find, names), strict=True))
    return {name: answer for name, answer in answers.items() if answer is not None}


def _find(host: str) -> str | None:
    try:
        return parse_literal(host) or choose(None, look_up(host))
    except (OSError, UnicodeError):
        return None


def parse_literal(host: str) -> str | None:
    """The IP literal that a host is, without brackets and in its usual form; None for a name."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return None


def choose(present: str | None, answers: Iterable[str]) -> str | None:
    """One of the answers, the present one if it is among them; None if none is an address."""
    usable = []
    for answer in answers:
        try:
            address = ipaddress.ip_address(answer)
        except ValueError:
            continue
        # Envoy has no word for the interface that a link-local address needs.
        if not (isinstance(address, ipaddress.IPv6Address) and address.scope_id):
            usable.append(address)
    if any(str(address) == present for address in usable):
        return present
    return str(min(usable, key=lambda address: (address.version, address))) if usable else None


class Addresses:
    """Keeps `resolved` true for the newest of `hosts`; new names are looked up at once, all others every period."""

    def __init__(
        self,
        hosts: Latest[frozenset[str]],
        resolved: Latest[Resolved],
        *,
        look_up: LookUp = look_up,
        period: float = PERIOD,
        patience: float = PATIENCE,
    ) -> None:
        self._hosts = hosts
        self._resolved = resolved
        self._look_up = look_up
        self._period = period
        self._patience = patience
        self._threads = asyncio.Semaphore(THREADS)
        self._pending: dict[str, asyncio.Task[Answer]] = {}

    async def run(self) -> None:
        """Resolves until cancelled."""
        try:
            hosts, version = await self._hosts.wait_newer()
            while True:
                await self._resolve(hosts)
                try:
                    async with asyncio.timeout(self._period):
                        hosts, version = await self._hosts.wait_newer(version)
                except TimeoutError:
                    continue
        finally:
            for task in self._pending.values():
                task.cancel()
            await asyncio.gather(*self._pending.values(), return_exceptions=True)

    async def _resolve(self, hosts: frozenset[str]) -> None:
        """Looks every name up once and publishes what changed: first what is there soon, then the rest."""
        literals = {host: literal for host in hosts if (literal := parse_literal(host))}
        names = sorted(hosts - literals.keys())
        for name in names:
            if name not in self._pending:
                self._pending[name] = asyncio.create_task(self._ask(name))
        answers: dict[str, Answer] = {}
        soon = min(SOON, self._patience)
        for bound, last in ((soon, False), (self._patience - soon, True)):
            waiting = [self._pending[name] for name in names if name in self._pending and name not in answers]
            if waiting:
                await asyncio.wait(waiting, timeout=bound)
            answers |= {name: self._pending.pop(name).result() for name, task in self._done()}
            self._publish(literals, names, answers, last)
            if answers.keys() >= set(names):
                return

    def _done(self) -> list[tuple[str, asyncio.Task[Answer]]]:
        return [(name, task) for name, task in self._pending.items() if task.done()]

    def _publish(
        self, literals: Mapping[str, str], names: Sequence[str], answers: Mapping[str, Answer], last: bool
    ) -> None:
        """Publishes what is known, if that is news; who has no answer at the last chance is at fault."""
        known = self._resolved.get() or Resolved()
        addresses, findings = dict(literals), {}
        for name in names:
            present = known.addresses.get(name)
            if name in answers:
                address, problem = judge(name, present, answers[name])
            elif last:
                address, problem = present, f"the look-up of {name} did not end within {self._patience:g} s"
            else:
                address, problem = present, known.findings.get(name)
            if address:
                addresses[name] = address
            if problem:
                findings[name] = problem
        news = Resolved(dict(sorted(addresses.items())), findings)
        if news != known or not self._resolved.version:
            self._resolved.set(news)

    async def _ask(self, name: str) -> Answer:
        """One look-up in a thread; an answer that comes after our end goes nowhere."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def deliver(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def work() -> None:
            try:
                answer: Answer = tuple(self._look_up(name))
            except (OSError, UnicodeError) as error:
                answer = error
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(deliver, answer)

        async with self._threads:
            Thread(target=work, name=f"look up {name}", daemon=True).start()
            return await answered


def judge(name: str, present: str | None, answer: Answer) -> tuple[str | None, str | None]:
    """The name's address after an answer, and what is wrong with the look-up."""
    if isinstance(answer, tuple):
        chosen = choose(present, answer)
        if chosen:
            return chosen, None
        problem = f"{name} resolves to no usable address"
    else:
        problem = f"{name} cannot be resolved ({getattr(answer, 'strerror', None) or 'not a valid host name'})"
    return present, f"{problem}; its last address {present} is kept" if present else problem
