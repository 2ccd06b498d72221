"""One exchange of Envoy's external processing, without I/O: a message in, an event out, and for it an answer's bytes.

Envoy sends the parts of a request and of its answer in order, those that the route asks for alone, and may end the
exchange after any of them. Each is answered under its own name before Envoy goes on; an empty answer lets it pass.
Whatever goes wrong is an empty answer as well: an exception's text would reach Envoy's log.

Today routes ask with the head of a request alone, and Envoy ends the exchange with our answer. Bodies come as `Part`
events of the same exchange, for the stages that will need them.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_proc_filter
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from envoy.service.ext_proc.v3.external_processor_pb2 import HttpHeaders, ProcessingRequest, ProcessingResponse
from google.protobuf.message import DecodeError

from weighbridge_api.wire import BLOCKS_HEADER, CHOICE, CLUSTER_HEADER, SESSION_HEADER
from weighbridge_dataplane.facts import BLOCKS_MAXIMUM, Asked

FILTER: Final = "envoy.filters.http.ext_proc"
POLICIES_MAXIMUM: Final = 1_024  # distinct texts that are remembered
POLICY_MAXIMUM: Final = 65_536  # characters of one
TEXT_MAXIMUM: Final = 256  # characters of an id or a session
_BLOCK: Final = re.compile(r"[0-9a-f]{8}")

Kind = Literal[
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
]


@dataclass(frozen=True, slots=True)
class Policy:
    """Of a route: the clusters whose nodes may be named, and where a request must be sent to reach these of each.

    `via` is empty where nothing but the node has to be named. `shared`: other Envoys hash alike how requests begin.
    """

    clusters: tuple[str, ...]
    via: tuple[str, ...] = ()
    shared: bool = False

    def lead_to(self, cluster: str) -> str | None:
        """The cluster that the answer has to name, too, for a node of `cluster`."""
        return self.via[self.clusters.index(cluster)] if self.via else None


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request, the first of its exchange. No policy: the route's is absent or unreadable."""

    policy: Policy | None
    asked: Asked
    request_id: str


@dataclass(frozen=True, slots=True)
class Part:
    """Any other part. `data` is of a body; `last` says that nothing of its direction follows."""

    kind: Kind
    data: bytes = b""
    last: bool = False


class Policies:
    """Parses each distinct text once, as far back as it remembers."""

    def __init__(self, most: int = POLICIES_MAXIMUM) -> None:
        self._known: OrderedDict[str, Policy | None] = OrderedDict()
        self._most = most

    def read(self, text: str) -> Policy | None:
        """None where it is no policy."""
        if text in self._known:
            return self._known[text]
        policy = _read_policy(text)
        self._known[text] = policy
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return policy


class Exchange:
    """One request's conversation: `receive` takes a message as it came and answers what it is."""

    __slots__ = ("_begun", "_policies")

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._begun = False

    def receive(self, message: bytes) -> Head | Part | None:
        """None: nothing of it can be answered, for it is no message or has no part that we know."""
        try:
            request = ProcessingRequest.FromString(message)
        except DecodeError:
            return None
        kind = request.WhichOneof("request")
        if kind is None:
            return None
        first, self._begun = not self._begun, True
        if kind == "request_headers":
            if first:
                return self._read_head(request)
            return Part(kind, last=request.request_headers.end_of_stream)
        if kind in ("request_body", "response_body"):
            body = getattr(request, kind)
            return Part(kind, body.body, body.end_of_stream)
        return Part(kind, last=kind != "response_headers" or request.response_headers.end_of_stream)

    def _read_head(self, request: ProcessingRequest) -> Head:
        fields = request.attributes[FILTER].fields if FILTER in request.attributes else {}
        text = next((value.string_value for value in fields.values()), "")
        headers = _read_headers(request.request_headers)
        policy = self._policies.read(text) if text else None
        return Head(
            policy=policy,
            asked=Asked(
                size=_read_size(headers.get("content-length", "")),
                session=headers.get(SESSION_HEADER, "")[:TEXT_MAXIMUM] or None,
                blocks=_read_blocks(headers.get(BLOCKS_HEADER, "")),
                shared=policy is not None and policy.shared,
            ),
            request_id=headers.get("x-request-id", "")[:TEXT_MAXIMUM],
        )


def _read_headers(head: HttpHeaders) -> dict[str, str]:
    """Envoy puts values into `raw_value`; `value` is of older ones."""
    return {each.key: each.raw_value.decode("latin-1") or each.value for each in head.headers.headers}


def _read_size(text: str) -> int | None:
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None


def _read_blocks(text: str) -> tuple[str, ...]:
    """Those before the first that is none: each hash stands for all before it, too."""
    blocks = []
    for block in text.split(".", BLOCKS_MAXIMUM)[:BLOCKS_MAXIMUM] if text else ():
        if not _BLOCK.fullmatch(block):
            break
        blocks.append(block)
    return tuple(blocks)


def _read_policy(text: str) -> Policy | None:
    if len(text) > POLICY_MAXIMUM:
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    clusters, via = _read_names(told.get("clusters")), _read_names(told.get("via") or [])
    if not clusters or via is None or len(via) not in (0, len(clusters)):
        return None
    return Policy(clusters, via, told.get("shared") is True)


def _read_names(told: object) -> tuple[str, ...] | None:
    if not isinstance(told, list) or not all(isinstance(name, str) and name for name in told):
        return None
    return tuple(told)


@lru_cache(maxsize=16)
def let_pass(kind: Kind) -> bytes:
    """The answer to a part that changes nothing."""
    response = ProcessingResponse()
    getattr(response, kind).SetInParent()
    return bytes(response.SerializeToString())


@lru_cache(maxsize=16_384)
def name_node(address: str, cluster: str | None) -> bytes:
    """The answer to a request's head that sends it to a node; to its cluster, too, where one is given."""
    response = ProcessingResponse()
    common = response.request_headers.response
    common.SetInParent()
    if cluster is not None:
        header = common.header_mutation.set_headers.add().header
        header.key, header.raw_value = CLUSTER_HEADER, cluster.encode()
        common.clear_route_cache = True
    response.dynamic_metadata.update({CHOICE: {"node": address, "by": "precise"}})
    return bytes(response.SerializeToString())
