"""Keeps what the choice is made from fresh: the Envoy beside us, and every node's own page.

Envoy's statistics four times a second, its runtime (the nodes that there are) every second; each node four times a
second as long as this process keeps up (`pace`). Each page has its bounds of time and size, and a node that is slow or
gone costs its own sample alone. Anything gone: what was read last serves, and the chooser says when it is too old.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from urllib.parse import quote

import aiohttp
from yarl import URL

from weighbridge_dataplane.facts import Member
from weighbridge_dataplane.pace import Pace, Patience
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.rates import tells_load
from weighbridge_dataplane.readings import CountsReading, cut, filter_counts, find_table, read_runtime, read_sample
from weighbridge_dataplane.records import Levels, Records
from weighbridge_metrics.engines import ENGINES
from weighbridge_metrics.signals import Window
from weighbridge_metrics.ways import Table

TIMEOUT = 1.0  # seconds for one page
SIZE = 2**20  # bytes of a node's page
ENVOY_SIZE = 32 * 2**20  # of Envoy's: 1,000 nodes make 0.5 MB
COUNTS_PERIOD, RUNTIME_PERIOD = 0.25, 1.0  # seconds
AT_ONCE = 64  # nodes asked at once
FRESH = 1.5  # seconds
ENVOY_SILENT = 3.0  # seconds without a page of Envoy's, after which that is said
HEADERS = {"Accept": "text/plain;version=0.0.4, text/plain;q=0.5, */*;q=0.1", "Accept-Encoding": "identity"}


QUIET = 10.0  # seconds between two lines about faults

log = logging.getLogger("dataplane")


class PageError(Exception):
    """A page that could not be had."""


class Watch:
    """`run` until cancelled. `admin` is the URL of Envoy's administration interface."""

    def __init__(self, admin: str, pools: Pools, records: Records) -> None:
        self._admin, self._pools, self._records = admin, pools, records
        self._pace = Pace(random.random)
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._patience: dict[str, Patience] = {}
        self._windows: dict[str, MutableMapping[str, Window]] = {}
        self._counted: float | None = None
        self._told = float("-inf")
        self._envoy_answered, self._envoy_silent = time.monotonic(), False

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        limits = aiohttp.ClientTimeout(total=TIMEOUT)
        jar = aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=jar, timeout=limits, auto_decompress=False, headers=HEADERS
            ) as http,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._follow_runtime(http))
            tasks.create_task(self._follow_counts(http))
            tasks.create_task(self._follow_nodes(http, tasks))

    def measure(self) -> Levels:
        """How fresh everything is now."""
        now = time.monotonic()
        ages = [now - sample.at for sample in self._pools.samples.values() if tells_load(sample)]
        return Levels(
            nodes=len(self._pools.members),
            fresh=sum(age <= FRESH for age in ages),
            oldest=max(ages, default=None),
            counts=None if self._counted is None else now - self._counted,
            period=self._pace.period,
        )

    async def _follow_runtime(self, http: aiohttp.ClientSession) -> None:
        known = b""
        while True:
            with self._survive():
                page, at = await self._ask_envoy(http, "/runtime")
                if page != known and (texts := read_runtime(page)) is not None:
                    known = page
                    self._pools.tell(texts, at)
            await asyncio.sleep(RUNTIME_PERIOD)

    async def _follow_counts(self, http: aiohttp.ClientSession) -> None:
        while True:
            began = time.monotonic()
            clusters = self._pools.clusters
            with self._survive():
                if clusters:
                    page, self._counted = await self._ask_envoy(http, f"/stats?filter={quote(filter_counts(clusters))}")
                    reading = CountsReading()
                    for piece in cut(page):
                        reading.take(piece)
                        await asyncio.sleep(0)  # a request may be waiting
                    self._pools.count(reading.finish(), self._counted)
            self._records.choices.settle()
            await asyncio.sleep(max(0.0, began + COUNTS_PERIOD - time.monotonic()))

    async def _ask_envoy(self, http: aiohttp.ClientSession, path: str) -> tuple[bytes, float]:
        try:
            answer = await fetch(http, self._admin + path, ENVOY_SIZE)
        except PageError:
            self._records.pages["failed"] += 1
            self._tell_envoy(answers=False)
            raise
        self._records.pages["read"] += 1
        self._tell_envoy(answers=True)
        return answer

    def _tell_envoy(self, *, answers: bool) -> None:
        """Says once that it does not answer for a while, and once that it does again."""
        now = time.monotonic()
        if answers:
            if self._envoy_silent:
                log.warning("%s answers again", self._admin)
            self._envoy_answered, self._envoy_silent = now, False
        elif not self._envoy_silent and now - self._envoy_answered >= ENVOY_SILENT:
            self._envoy_silent = True
            log.error(
                "%s gives no page of Envoy's, so that the weights decide: "
                "is it the administration interface of the Envoy beside this (--admin-url)?",
                self._admin,
            )

    async def _follow_nodes(self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        while True:
            members = list(self._pools.members.values())
            now = time.monotonic()
            for place in self._pace.turn(len(members), now) if members else ():
                self._begin(http, members[place % len(members)], now, tasks)
            self._forget()
            tick = self._pace.tick(len(members))
            await asyncio.sleep(tick)
            self._pace.feel(max(0.0, time.monotonic() - now - tick))

    def _begin(self, http: aiohttp.ClientSession, member: Member, now: float, tasks: asyncio.TaskGroup) -> None:
        table = find_table(member.engine, member.mapping)
        if not member.metrics or table is None:
            return
        address = member.address
        if not self._patience.setdefault(address, Patience()).is_due(now):
            return
        if address in self._asked or len(self._asked) >= AT_ONCE:
            self._records.samples["skipped"] += 1
            return
        task = self._asked[address] = tasks.create_task(self._read_node(http, member, table))
        task.add_done_callback(lambda _: self._asked.pop(address, None))

    async def _read_node(self, http: aiohttp.ClientSession, member: Member, table: Table) -> None:
        # What an engine prints stands on its own page; metrics that a user named may be on any.
        urls = member.metrics[:1] if member.engine in ENGINES else member.metrics
        sample = None
        with self._survive():
            answers = await asyncio.gather(*(fetch(http, url, SIZE) for url in urls))
            windows = self._windows.setdefault(member.address, {})
            sample = read_sample(table, [page for page, _ in answers], windows, answers[0][1])
        now = time.monotonic()
        self._records.samples["read" if sample is not None and tells_load(sample) else "failed"] += 1
        if (patience := self._patience.get(member.address)) is not None:
            patience.take(sample is not None, now)
        with self._survive():
            self._pools.read(member.address, sample, now)

    @contextmanager
    def _survive(self) -> Iterator[None]:
        """A page that cannot be had, and a fault of ours, cost one reading: the last one serves."""
        try:
            yield
        except PageError:
            return
        except Exception as error:
            if time.monotonic() - self._told >= QUIET:
                self._told = time.monotonic()
                log.exception("a reading failed with %s; the last one serves", type(error).__name__)

    def _forget(self) -> None:
        if len(self._patience) > len(self._pools.members):
            for known in (self._patience, self._windows):
                for address in known.keys() - self._pools.members.keys():
                    known.pop(address)


async def fetch(http: aiohttp.ClientSession, url: str, size: int) -> tuple[bytes, float]:
    """A page of at most `size` bytes, and when its answer began (monotonic). Raises PageError and nothing else."""
    try:
        async with http.get(URL(url, encoded=True), allow_redirects=False) as answer:
            at = time.monotonic()
            if answer.status != 200 or "Content-Encoding" in answer.headers:
                raise PageError
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > size:
                    raise PageError
            return bytes(body), at
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
        raise PageError from None
