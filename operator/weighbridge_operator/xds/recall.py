"""What an Envoy holds from a life of ours that we don't remember, read from its own admin interface.

State of the world deletes what it leaves out, so after our restart the first complete set would take away clusters
that the Envoy's routes still lead to. Their content is asked back from the Envoy, to keep them until its routes moved.
Listeners are not asked for: their content may hold secrets, which Envoy shows redacted and which must not be sent back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from weighbridge_operator.xds.kinds import CLUSTER, ROUTE
from weighbridge_operator.xds.memory import Memory
from weighbridge_operator.xds.session import Recall
from weighbridge_operator.xds.snapshot import Resource, SnapshotError, pack

TIME_LIMIT = 2.0  # seconds for both answers
SIZE_LIMIT = 128 * 2**20  # bytes of one answer
PIECE = 2**16
REDACTED = b"[redacted]"


def recall_over(http: aiohttp.ClientSession) -> Recall:
    """Reads an Envoy's clusters and routes over this HTTP session; None if they can't be known completely."""

    async def recall(stats: str) -> Memory | None:
        try:
            clusters = read_dump(CLUSTER, await _fetch(http, f"{stats}/config_dump?resource=dynamic_active_clusters"))
            told = await _fetch(http, f"{stats}/config_dump?resource=dynamic_route_configs")
            routes = read_dump(ROUTE, told, lacks_keys=True)
        except (TimeoutError, aiohttp.ClientError, ValueError, ParseError, SnapshotError):
            return None
        warm = frozenset(clusters)
        if REDACTED in told:
            # Callers' keys are missing in them: good for what they lead to, never to be sent.
            return Memory({CLUSTER: clusters}, warm=warm, perhaps=tuple(routes.values()))
        return Memory({CLUSTER: clusters, ROUTE: routes}, warm=warm)

    return recall


def read_dump(kind: str, text: bytes, *, lacks_keys: bool = False) -> Mapping[str, Resource]:
    """The resources of one type in a config_dump, which may lack keys if that is said.

    Raises ValueError, ParseError or SnapshotError.
    """
    if REDACTED in text and not lacks_keys:
        raise ValueError("a secret is redacted, so the content is not the content")
    resources = (pack(kind, message) for message in _parse(kind, json.loads(text)))
    return {resource.name: resource for resource in resources}


def _parse(kind: str, dump: dict[str, Any]) -> Iterator[Message]:
    entry, message = ("cluster", Cluster) if kind == CLUSTER else ("route_config", RouteConfiguration)
    for config in dump.get("configs", ()):
        fields = {key: value for key, value in config[entry].items() if key != "@type"}
        yield ParseDict(fields, message())


async def _fetch(http: aiohttp.ClientSession, url: str) -> bytes:
    limit = aiohttp.ClientTimeout(total=TIME_LIMIT / 2)
    async with http.get(url, timeout=limit, allow_redirects=False, raise_for_status=True) as answer:
        text = bytearray()
        async for piece in answer.content.iter_chunked(PIECE):
            text += piece
            if len(text) > SIZE_LIMIT:
                raise ValueError("the answer is too large")
        return bytes(text)
