"""The API server as this package needs it: get, list and watch, as plain data, each bounded in time and size.

Where it is and who we are comes from KUBECONFIG, or from the service account of the pod; tokens are read anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

Raw = dict[str, Any]
Query = Sequence[tuple[str, str]]

TIMEOUT = 10.0  # seconds for one answer
PAGE = 500  # objects in one part of a list
WATCH = 290  # seconds after which a watch is begun anew
SILENCE = 75.0  # seconds without a word, bookmarks included, after which it counts as dead
REFUSAL = 2**16  # bytes of a refusal that are read
LARGEST = 16 * 2**20  # bytes of one line of a watch; an object has at most 1.5 MiB
#: Objects without spec and status: enough to see what exists.
NAMES = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


class ApiError(Exception):
    """The API server could not be asked, or refused. `status` is HTTP's, None where it did not answer."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class ClusterNotFoundError(OSError):
    """Nothing says where the API server is."""


class Api:
    """`async with Api() as api:`; raises ClusterNotFoundError. Every method raises ApiError and nothing else."""

    async def __aenter__(self) -> Api:
        settings = Configuration()
        try:
            given = os.environ.get("KUBECONFIG")
            if given or "KUBERNETES_SERVICE_HOST" not in os.environ:
                await load_kube_config(given, client_configuration=settings)  # type: ignore[no-untyped-call]
            else:
                load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise ClusterNotFoundError(f"no cluster to read from: {error}; set KUBECONFIG") from error
        settings.retries = None
        settings.connection_pool_maxsize = 0
        self._host = str(settings.host)
        self._authority = str(settings.ssl_ca_cert or "")
        self._client = ApiClient(settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def find_addresses(self) -> frozenset[str]:
        """The API server's IP addresses, as far as they are known: no node may be there."""
        host = urlsplit(self._host).hostname or ""
        found = {host}
        with suppress(OSError):
            answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found |= {str(answer[4][0]) for answer in answers}
        return frozenset(address for address in found if _is_literal(address))

    def find_authority(self) -> bytes:
        """Whose certificate the API server has, which tells a cluster from others; else where it is."""
        with suppress(OSError):
            return Path(self._authority).read_bytes()
        return self._host.encode()

    async def get(self, path: str, query: Query = (), accept: str = "application/json") -> Raw:
        """One object or one part of a list."""
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._open(path, query, accept)
                try:
                    body = await answer.read()
                finally:
                    answer.release()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiError(_word(error)) from error
        return _parse(body)

    async def list_all(self, path: str, query: Query = (), accept: str = "application/json") -> AsyncIterator[Raw]:
        """Parts of a list, each with `metadata.resourceVersion` and `items`; a list that changes begins no new."""
        rest = ""
        while True:
            more = [("limit", str(PAGE)), *query, *([("continue", rest)] if rest else [])]
            part = await self.get(path, more, accept)
            yield part
            rest = str(part.get("metadata", {}).get("continue") or "")
            if not rest:
                return

    async def watch(self, path: str, version: str) -> AsyncGenerator[Raw, None]:
        """Events since a version, until the server ends it. 410 means that a new list is needed."""
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", str(WATCH))]
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._open(path, [*query, ("resourceVersion", version)], "application/json")
            try:
                async for line in _read_lines(answer):
                    event = _parse(line)
                    if event.get("type") == "ERROR":
                        status = event.get("object", {})
                        raise ApiError(str(status.get("message", "the watch broke off"))[:300], status.get("code"))
                    yield event
            finally:
                answer.close()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiError(_word(error)) from error

    async def _open(self, path: str, query: Query, accept: str) -> aiohttp.ClientResponse:
        url = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": accept}
        method, url, headers, *_ = await self._client.param_serialize(
            "GET", url, header_params=headers, auth_settings=["BearerToken"]
        )
        given = aiohttp.ClientTimeout(sock_connect=TIMEOUT, sock_read=SILENCE)
        answer = (await self._client.call_api(method, url, headers, _request_timeout=given)).response
        if answer.status != 200:
            text = await answer.content.read(REFUSAL)
            answer.release()
            raise ApiError(explain(answer.status, text), answer.status)
        return answer  # type: ignore[no-any-return]


async def _read_lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in answer.content.iter_any():
        rest += chunk
        *lines, last = rest.split(b"\n")
        for line in lines:
            if line:
                yield bytes(line)
        rest = bytearray(last)
        if len(rest) > LARGEST:
            raise ApiError("an event of the watch is larger than an object can be")


def _parse(body: bytes) -> Raw:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise ApiError("the API server answered something that is not JSON") from error
    if not isinstance(value, dict):
        raise ApiError("the API server answered something that is no object")
    return value


def explain(status: int, body: bytes) -> str:
    """What the API server said of a refusal."""
    try:
        said: Mapping[str, Any] = json.loads(body)
        return f"{status}: {str(said['message'])[:300]}"
    except (ValueError, KeyError, TypeError):
        return f"the API server answered {status}"


def _word(error: BaseException) -> str:
    return "the API server did not answer in time" if isinstance(error, TimeoutError) else f"{error or 'broken off'}"


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
