"""One Prometheus server: asked over prometheus-api-client, which blocks and reads whatever comes; here within bounds.

Its calls run in threads of the caller's pool. What the library leaves open is closed by a session of our own: an answer
is read up to a size and a deadline, redirects are not followed, the environment's proxies and passwords are not used,
queries travel in the body (a URL is cut off at some kilobytes by what stands between), and errors are sentences that
name host and port and never a credential. Token, password and authorities are read anew when their files change.

Samples carry the server's wall clock. It is not compared with ours: `time()` is asked in each round, and what it said
half-way between question and answer ties the server's clock to our monotonic one, wrong by half of that time at most.
The tightest of recent ties holds until the clocks are seen to have moved apart.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.retry import Retry

from weighbridge_operator.settings import PrometheusSettings

CONNECT, READ = 2.0, 4.0  # seconds for a connection, and for any part of an answer
TOTAL: Final = 8.0  # seconds for a whole answer
SIZE_MAXIMUM: Final = 32 * 1024 * 1024  # bytes of an answer, unpacked
FILE_MAXIMUM: Final = 64 * 1024  # bytes of a file with a credential
TIES: Final = 16  # measurements of the server's clock that are remembered
STEP: Final = 0.5  # seconds beyond what the measurements allow, at which a clock was set


class PrometheusError(Exception):
    """The server can't be used now; the message is a sentence without its subject: "answered 401"."""


class QueryError(Exception):
    """One query can't be used; the message is what is said of it: "is refused by Prometheus: parse error"."""


@dataclass(frozen=True, slots=True)
class _Tie:
    offset: float  # seconds: the server's Unix time less our monotonic time
    error: float  # seconds, at most


class PrometheusServer:
    """Blocking; one thread may ask while others do. `name` is host and port."""

    def __init__(self, url: str, settings: PrometheusSettings, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        self.name = parts.netloc
        self._url, self._settings, self._clock = url.rstrip("/"), settings, clock
        self._lock = threading.Lock()
        self._client: PrometheusConnect | None = None
        self._read: Mapping[str, str] = {}
        self._ties: deque[_Tie] = deque(maxlen=TIES)
        self._tie: _Tie | None = None
        self.steps = 0  # times that its clock was set
        self.queries = 0
        self.failures = 0

    def ask(self, text: str) -> object:
        """The `result` of an instant query. Raises PrometheusError, QueryError."""
        self.queries += 1
        try:
            return self._ask(text)
        except (PrometheusError, QueryError):
            self.failures += 1
            raise

    def measure_clock(self) -> None:
        """Ties its clock to ours. Raises as `ask`."""
        before = self._clock()
        result = self.ask("time()")
        after = self._clock()
        if not isinstance(result, list) or len(result) != 2:
            raise PrometheusError("answered something else than a Prometheus does")
        try:
            tie = _Tie(float(result[1]) - (before + after) / 2, (after - before) / 2)
        except (TypeError, ValueError):
            raise PrometheusError("answered something else than a Prometheus does") from None
        held = self._tie
        if held is not None and abs(tie.offset - held.offset) > held.error + tie.error + STEP:
            self._ties.clear()
            self.steps += 1
        self._ties.append(tie)
        best = min(self._ties, key=lambda each: each.error)
        # Kept while it is as good: a sample's instant must not wander between two looks at it.
        if held is None or held not in self._ties:
            self._tie = best

    def to_monotonic(self, at: float) -> float:
        """Our clock at the server's Unix time `at`; only after `measure_clock`."""
        assert self._tie is not None
        return at - self._tie.offset

    @property
    def skew(self) -> float | None:
        """Seconds by which its wall clock is ahead of ours; for people."""
        return None if self._tie is None else self._tie.offset + self._clock() - time.time()

    def close(self) -> None:
        """Ends its connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _ask(self, text: str) -> object:
        try:
            return self._connect().custom_query(text, params={"timeout": f"{TOTAL:g}s"})
        except requests.exceptions.JSONDecodeError:
            raise PrometheusError("answered something else than a Prometheus does") from None
        except requests.exceptions.SSLError:
            raise PrometheusError("failed the TLS handshake") from None
        except requests.exceptions.Timeout:
            raise PrometheusError(f"did not answer within {READ:g} s") from None
        except ReadTimeoutError:
            raise PrometheusError(f"did not answer within {READ:g} s") from None
        except (requests.exceptions.ConnectionError, HTTPError):
            raise PrometheusError("cannot be connected to, or broke off its answer") from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise PrometheusError(f"cannot be asked ({type(error).__name__})") from None
        except (ValueError, KeyError, TypeError):
            raise PrometheusError("answered something else than a Prometheus does") from None

    def _connect(self) -> PrometheusConnect:
        """The client, made anew when a credential's file has changed."""
        with self._lock:
            read = self._read_files()
            if self._client is None or read != self._read:
                if self._client is not None:
                    self._client.close()
                self._client, self._read = self._make_client(read), read
            return self._client

    def _read_files(self) -> Mapping[str, str]:
        settings, read = self._settings, {}
        named = {"token": settings.token_file, "password": settings.password_file, "authorities": settings.ca_file}
        for what, path in named.items():
            if path is not None:
                read[what] = _read_file(path, what)
        return read

    def _make_client(self, read: Mapping[str, str]) -> PrometheusConnect:
        session = _Session()
        session.trust_env = False
        if self._settings.ca_file is not None:
            session.verify = str(self._settings.ca_file)
        user = self._settings.user
        client = PrometheusConnect(
            url=self._url,
            headers={"Authorization": f"Bearer {read['token']}"} if "token" in read else None,
            auth=(user, read.get("password", "")) if user is not None else None,
            session=session,
            timeout=(CONNECT, READ),  # handed on to requests, which takes both
            method="POST",
        )
        session.mount(self._url, _Adapter(self._clock))  # in the place of the client's own
        return client


def _read_file(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(FILE_MAXIMUM).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise PrometheusError(f"is not asked: the file of its {what} cannot be read") from None
    if what != "authorities" and (not text or any(not 32 <= ord(each) <= 126 for each in text)):
        raise PrometheusError(f"is not asked: the file of its {what} holds no line of printable characters")
    return text


class _Session(requests.Session):
    """Sends what a query asks in the body."""

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        if method == "POST":
            options["data"] = options.pop("params", None)
        return super().request(method, url, *args, **options)


class _Adapter(HTTPAdapter):
    """Reads answers within bounds, and tells errors of the server from those of a query."""

    def __init__(self, clock: Callable[[], float]) -> None:
        # What fails is tried again by the rounds, later each time, and elsewhere; not here, in a held thread.
        super().__init__(max_retries=Retry(total=0, redirect=0))
        self._time = clock

    def send(self, *args: Any, **options: Any) -> requests.Response:
        deadline = self._time() + TOTAL
        response = super().send(*args, **(options | {"stream": True}))
        try:
            body = self._read(response, deadline)
        finally:
            response.close()
        if 300 <= response.status_code < 400:
            raise PrometheusError("redirects, which is not followed")
        # 400 is said of a text that is no query, 422 of one that cannot be computed.
        if response.status_code in (400, 422):
            raise QueryError(f"is refused by Prometheus: {_word_refusal(response, body)}")
        if response.status_code != 200:
            raise PrometheusError(f"answered {response.status_code}{_HINTS.get(response.status_code, '')}")
        response._content = body  # where requests looks for what was read
        return response

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        body = bytearray()
        while chunk := response.raw.read(65536, decode_content=True):
            body += chunk
            if len(body) > SIZE_MAXIMUM:
                raise QueryError(f"brings more than {SIZE_MAXIMUM // 1024 // 1024} MiB")
            if self._time() > deadline:
                raise PrometheusError(f"did not finish its answer within {TOTAL:g} s")
        return bytes(body)


_HINTS: Final = {
    401: ": see --prometheus-token-file, or --prometheus-user and --prometheus-password-file",
    403: ": what it is given does not allow queries",
    404: ": the URL is not that of a Prometheus, or its path is missing",
}


def _word_refusal(response: requests.Response, body: bytes) -> str:
    response._content = body
    try:
        words = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        words = f"status {response.status_code}"
    return " ".join(words.removeprefix('invalid parameter "query": ').split())[:200]
