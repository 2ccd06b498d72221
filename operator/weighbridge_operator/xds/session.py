"""Runs one conversation on one stream. All events pass one bounded queue, so a conversation has one writer.

A slow Envoy fills its own queue: its requests wait in the transport, and newer snapshots replace older ones where they
are made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.any_pb2 import Any as PackedAny

from weighbridge_operator.latest import Latest
from weighbridge_operator.xds.ads import Conversation
from weighbridge_operator.xds.envoys import EnvoyState
from weighbridge_operator.xds.exchange import Request, Response
from weighbridge_operator.xds.memory import Memory
from weighbridge_operator.xds.origins import refuse_origin
from weighbridge_operator.xds.snapshot import Snapshot

#: Asks the Envoy whose admin interface is at this URL whether no cluster is warming. It bounds its own time and answers
#: False when it can't know.
Warmth = Callable[[str], Awaitable[bool]]

#: Asks the Envoy whose admin interface is at this URL what it holds; None when it can't know. It bounds its own time.
Recall = Callable[[str], Awaitable[Memory | None]]

QUEUE = 64  # events
NAMES = 65_536  # in one request; 1.5 million, which a request can carry, stopped everybody's streams for 9 s
FIRST_LOOK = 0.005  # seconds between looks at an Envoy's warmth; doubled each time
LAST_LOOK = 0.1
log = logging.getLogger("weighbridge.xds")


class Stream(Protocol):
    """What is used of a grpc.aio context."""

    async def read(self) -> object: ...

    async def write(self, message: DiscoveryResponse) -> None: ...


@dataclass(frozen=True, slots=True)
class EnvoyNode:
    """Who an Envoy says it is."""

    id: str
    cluster: str
    build: str
    stats: str | None
    doubt: str | None = None  # why it is not asked where it says that its statistics are
    dataplane: bool = False  # whether it says that one is beside it


@dataclass(frozen=True, slots=True)
class Warmed:
    clusters: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ended:
    """The Envoy closed the stream, or we stop."""


Event = Request | Snapshot | Warmed | Ended


class Session:
    """One stream's conversation, its helpers and what is known of its Envoy."""

    def __init__(
        self,
        node: EnvoyNode,
        memory: Memory | None,
        *,
        clock: Callable[[], float],
        warmth: Warmth | None,
        tell: Callable[[], None],
    ) -> None:
        self.node = node
        self.conversation = Conversation(memory)
        self._clock, self._warmth, self._tell = clock, warmth, tell
        self.state = EnvoyState(node.id, node.stats, node.build, clock(), doubt=node.doubt, dataplane=node.dataplane)
        self._events: asyncio.Queue[Event] = asyncio.Queue(QUEUE)
        self._ended = False
        self._look: asyncio.Task[None] | None = None
        self._looked_for: frozenset[str] = frozenset()

    async def run(self, first: Request, stream: Stream, snapshots: Latest[Snapshot]) -> None:
        """Serves until the Envoy goes or `end` is called."""
        helpers = [asyncio.create_task(self._read(stream)), asyncio.create_task(self._follow(snapshots))]
        try:
            await self._send(stream, self.conversation.receive(first, self._clock()))
            while not self._ended:
                await self._send(stream, self._apply(await self._next_event()))
                self._watch_warmth()
                self._update_state()
        finally:
            helpers += [self._look] if self._look is not None else []
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    def end(self) -> None:
        """Ends the stream at the next event."""
        self._ended = True
        if not self._events.full():
            self._events.put_nowait(Ended())

    def _apply(self, event: Event | None) -> tuple[Response, ...]:
        now = self._clock()
        match event:
            case None:
                return self.conversation.tick(now)
            case Request():
                return self.conversation.receive(event, now)
            case Snapshot():
                return self.conversation.offer(event, now)
            case Warmed():
                return self.conversation.warmed(event.clusters, now)
            case Ended():
                self._ended = True
                return ()
            case _:
                assert_never(event)

    async def _next_event(self) -> Event | None:
        deadline = self.conversation.deadline
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - self._clock())):
                return await self._events.get()
        except TimeoutError:
            return None

    async def _send(self, stream: Stream, responses: Iterable[Response]) -> None:
        for response in responses:
            await stream.write(pack_response(response))

    async def _read(self, stream: Stream) -> None:
        while isinstance(message := await stream.read(), DiscoveryRequest) and self.can_take(message):
            await self._events.put(read_request(message))
        await self._events.put(Ended())

    def can_take(self, message: DiscoveryRequest) -> bool:
        """Whether the request is one that an Envoy could send; if not, its stream is to end."""
        if len(message.resource_names) <= NAMES:
            return True
        log.warning("xDS: %.100r asked for more than %d names at once; its stream ends", self.node.id, NAMES)
        return False

    async def _follow(self, snapshots: Latest[Snapshot]) -> None:
        version = 0
        while True:
            snapshot, version = await snapshots.wait_newer(version)
            await self._events.put(snapshot)

    def _watch_warmth(self) -> None:
        waited_for = self.conversation.waits_for_warmth
        if self._look is not None and (self._look.done() or not waited_for & self._looked_for):
            self._look.cancel()
            self._look = None
        if waited_for and self._look is None and self._warmth is not None and self.node.stats is not None:
            self._looked_for = waited_for
            self._look = asyncio.create_task(self._look_for(waited_for, self._warmth, self.node.stats))

    async def _look_for(self, clusters: frozenset[str], warmth: Warmth, stats: str) -> None:
        pause = FIRST_LOOK
        while not await warmth(stats):
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_LOOK)
        await self._events.put(Warmed(clusters))

    def _update_state(self) -> None:
        refusals = self.conversation.refusal_count
        if self.conversation.settled or refusals != sum(len(kind.refusals) for kind in self.state.kinds):
            state = replace(self.state, kinds=self.conversation.states())
            if state != self.state:
                self.state = state
                self._tell()


def read_request(message: DiscoveryRequest) -> Request:
    """What the wire says, in our words."""
    return Request(
        message.type_url,
        message.version_info,
        message.response_nonce,
        tuple(message.resource_names),
        _without_dump(message.error_detail.message) if message.HasField("error_detail") else None,
    )


def _without_dump(refusal: str) -> str:
    """Why an Envoy refused something, without what it refused: routes hold callers' keys, which no status may tell."""
    told, dump, _ = refusal.partition("goo.gle/debug")
    return f"{told.rstrip(' :(')} (its own log has the rest)".lstrip() if dump else refusal


def read_node(
    node: Node, peer: str, *, proven: bool = False, refused: Collection[str] = (), listed: Collection[str] = ()
) -> EnvoyNode:
    """Who the Envoy is, and where its statistics are: metadata `weighbridge: {stats: "http://host:port"}`.

    `peer` and what follows say how far it is believed in that, see `origins`.
    """
    version = node.user_agent_build_version.version
    told = node.metadata.fields["weighbridge"].struct_value.fields if "weighbridge" in node.metadata.fields else {}
    stats = told["stats"].string_value if "stats" in told else ""
    doubt = refuse_origin(stats, peer, proven=proven, refused=refused, listed=listed) if stats else None
    return EnvoyNode(
        id=node.id,
        cluster=node.cluster,
        build=f"{version.major_number}.{version.minor_number}.{version.patch}",
        stats=stats if stats and doubt is None else None,
        doubt=doubt,
        dataplane="dataplane" in told and told["dataplane"].bool_value,
    )


def pack_response(response: Response) -> DiscoveryResponse:
    """One response as it goes over the wire."""
    return DiscoveryResponse(
        version_info=response.version,
        type_url=response.kind,
        nonce=response.nonce,
        resources=[PackedAny(type_url=resource.type_url, value=resource.body) for resource in response.resources],
    )
