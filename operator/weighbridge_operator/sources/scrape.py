"""Asks nodes for their exposition pages, each within bounds of time, size and number at once.

One session for all, its connections kept open between rounds. A page that is late, too large, redirected or no
exposition text costs only itself: the node's other endpoints still make a partial sample, whose `error` says in a
sentence what is missing. The body is unpacked by us, because a few kilobytes of gzip may hold gigabytes. Errors name
host, port and path, never a query or a credential.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import aiohttp
from yarl import URL

from weighbridge_metrics.sample import LoadSample
from weighbridge_metrics.signals import Counters, extract
from weighbridge_metrics.ways import Table

TIMEOUT = 1.5  # seconds for one page, from asking to its last byte
SIZE_MAXIMUM = 4 * 1024 * 1024  # bytes of a page, unpacked
CONCURRENCY = 64  # nodes at once
LARGE = 256 * 1024  # bytes of a node's pages, above what engines print; such are read beside the loop, one at a time

_HEADERS = {"Accept": "text/plain;version=0.0.4, text/plain;q=0.5, */*;q=0.1", "Accept-Encoding": "gzip"}
#: Exposition text travels under many names, or none; these are certainly something else.
_FOREIGN = ("html", "json", "protobuf", "xml", "image/", "event-stream")

READER = ThreadPoolExecutor(1, "pages")


class FetchError(Exception):
    """A page that could not be had; the message is one sentence for users."""


@dataclass(frozen=True, slots=True)
class Page:
    """A body, and when its answer arrived (seconds, monotonic)."""

    text: bytes
    at: float


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One node to ask. The first URL is the engine's own; hosts in URLs are IP literals, resolved as Envoy's are."""

    node: str  # "namespace/name"
    engine: str
    urls: tuple[str, ...]
    host: str | None = None  # Host header and TLS name; None takes the URL's
    tls: ssl.SSLContext | None = None  # for https; None trusts the system's authorities
    mapped: Table | None = None  # how to read an engine whose user names its metrics
    #: The node's own credential, and the URLs that are the node's own and get it; exporters beside it never do.
    key: str | None = field(default=None, repr=False)
    guarded: frozenset[str] = frozenset()


def open_session() -> aiohttp.ClientSession:
    """A session for scraping; to be entered and left by the caller."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        auto_decompress=False,
        headers=_HEADERS,
    )


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    clock: Callable[[], float],
    *,
    timeout: float = TIMEOUT,  # noqa: ASYNC109  # aiohttp's own bound, which closes the connection properly
    host: str | None = None,
    tls: ssl.SSLContext | None = None,
    size: int = SIZE_MAXIMUM,
    key: str | None = None,
) -> Page:
    """Gets one page of at most `size` bytes, unpacked; raises FetchError and nothing else."""
    try:
        place = URL(url)
    except ValueError:
        raise FetchError("the URL of an endpoint is malformed") from None
    where = f"{place.host_subcomponent}:{place.port}{place.path}"
    named = {"Host": host if place.is_default_port() else f"{host}:{place.port}"} if host else {}
    try:
        async with session.get(
            place,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout),
            headers=named | ({"Authorization": f"Bearer {key}"} if key else {}),
            server_hostname=host if place.scheme == "https" else None,
            ssl=tls or True,
        ) as answer:
            at = clock()
            _check(answer, where)
            return Page(await _read(answer, where, size), at)
    except TimeoutError:
        raise FetchError(f"{where} did not answer within {timeout:g} s") from None
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError):
        raise FetchError(f"{where} failed the TLS handshake") from None
    except aiohttp.ClientConnectorError as error:
        raise FetchError(f"{where} cannot be connected to ({_name(error.os_error)})") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"{where} broke off its answer ({type(error).__name__})") from None


def _name(error: OSError) -> str:
    """In the system's words: asyncio's repeat the address as Python writes it."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or "unknown reason"


def _check(answer: aiohttp.ClientResponse, where: str) -> None:
    if 300 <= answer.status < 400:
        raise FetchError(f"{where} redirects, which is not followed")
    if answer.status != 200:
        raise FetchError(f"{where} answered {answer.status}")
    kind = answer.headers.get("Content-Type", "").lower()
    if any(foreign in kind for foreign in _FOREIGN):
        raise FetchError(f"{where} answered {kind.partition(';')[0][:40]}, which is no exposition text")


async def _read(answer: aiohttp.ClientResponse, where: str, size: int) -> bytes:
    """The body, unpacked."""
    coding = answer.headers.get("Content-Encoding", "identity").lower()
    if coding not in {"identity", "gzip"}:
        raise FetchError(f"{where} packed its answer as {coding[:20]}, which was not asked for")
    unpacker = zlib.decompressobj(wbits=31) if coding == "gzip" else None
    body = bytearray()
    async for chunk in answer.content.iter_any():
        try:
            body += unpacker.decompress(chunk, size + 1 - len(body)) if unpacker else chunk
        except zlib.error:
            raise FetchError(f"{where} sent broken gzip") from None
        if unpacker and unpacker.unused_data:
            raise FetchError(f"{where} sent something behind its gzip")
        if len(body) > size:
            raise FetchError(f"{where} is larger than {size // 1024 // 1024} MiB")
    if unpacker and not unpacker.eof:
        raise FetchError(f"{where} sent broken gzip")
    return bytes(body)


async def scrape(
    session: aiohttp.ClientSession, target: ScrapeTarget, previous: Counters, clock: Callable[[], float]
) -> tuple[LoadSample, Counters]:
    """Asks all endpoints of one node at once. The sample's time is that of the engine's answer, else of the first."""
    answers = await asyncio.gather(*(_try_fetch(session, url, target, clock) for url in target.urls))
    pages = [answer for answer in answers if isinstance(answer, Page)]
    errors = [answer for answer in answers if isinstance(answer, str)]
    if not pages:
        text = "; ".join(errors) or "no endpoint to ask"
        return LoadSample(node=target.node, at=clock(), error=text), previous
    texts = [page.text for page in pages]
    reading = partial(extract, target.node, target.engine, texts, previous, pages[0].at, target.mapped)
    large = sum(map(len, texts)) > LARGE
    sample, counters = await asyncio.get_running_loop().run_in_executor(READER, reading) if large else reading()
    if not errors:
        return sample, counters
    # What the engine's own page lacks is explained by its absence, which is the first error.
    if sample.error and not isinstance(answers[0], str):
        errors.append(sample.error)
    return replace(sample, error="; ".join(errors)), counters


async def _try_fetch(
    session: aiohttp.ClientSession, url: str, target: ScrapeTarget, clock: Callable[[], float]
) -> Page | str:
    try:
        key = target.key if url in target.guarded else None
        return await fetch(session, url, clock, host=target.host, tls=target.tls, key=key)
    except FetchError as error:
        return str(error)
