"""The ADS server: one session for each stream, fed by the newest snapshot, telling what each Envoy holds.

What is known of an Envoy (by node id and build) outlives its streams. Keepalive finds a frozen peer in seconds; without
SO_REUSEPORT a forgotten process can't take over half of the streams. Delta streams are answered UNIMPLEMENTED.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from weighbridge_operator.latest import Latest
from weighbridge_operator.xds.credentials import find_stranger
from weighbridge_operator.xds.envoys import EnvoyState, EnvoyStates
from weighbridge_operator.xds.memory import Memory
from weighbridge_operator.xds.session import EnvoyNode, Recall, Session, Warmth, read_node, read_request
from weighbridge_operator.xds.snapshot import Snapshot

KEEPALIVE = 2.0  # seconds between pings
KEEPALIVE_LIMIT = 1.0  # seconds to answer one
REQUEST_LIMIT = 16 * 2**20  # bytes: every name of one type, 10,000 of them with room
RESPONSE_LIMIT = 128 * 2**20  # bytes: the complete set of 10,000 clusters with room
REMEMBERED = 1024  # Envoys
log = logging.getLogger("weighbridge.xds")

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", int(KEEPALIVE * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_LIMIT * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    # Envoy pings as often as we do; the default would call that abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_receive_message_length", REQUEST_LIMIT),
    ("grpc.max_send_message_length", RESPONSE_LIMIT),
)


class AddressUnavailableError(OSError):
    """The address can't be bound; the message names it."""


class AdsServer:
    """Serves one gateway's snapshots to its Envoys and publishes what they hold in `states`.

    `identity`: the URI that a client's certificate must have, where there is TLS. `refused`: IP literals where no Envoy
    can be, whatever it says; `listed`: where the cluster says that their statistics are.
    """

    def __init__(
        self,
        gateway: str,
        snapshots: Latest[Snapshot],
        *,
        warmth: Warmth | None = None,
        recall: Recall | None = None,
        identity: str | None = None,
        refused: Collection[str] = (),
        listed: Callable[[], Collection[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.states: Latest[EnvoyStates] = Latest()
        self._gateway, self._snapshots, self._clock = gateway, snapshots, clock
        self._warmth, self._ask_back, self._identity = warmth, recall, identity
        self._refused, self._listed = refused, listed
        self._sessions: list[Session] = []  # oldest first
        self._memories: OrderedDict[tuple[str, str], Memory] = OrderedDict()
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listens on "host:port" and answers the port (port 0 takes a free one). Raises AddressUnavailableError."""
        server = grpc.aio.server(options=OPTIONS)
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(_Service(self), server)
        try:
            if credentials is None:
                port: int = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise AddressUnavailableError(f"cannot listen on {address}: is another process using the port?") from error
        await server.start()
        self._server = server
        self._publish()
        return port

    async def stop(self, grace: float = 1.0) -> None:
        """Ends every stream, cuts those that don't end within `grace` seconds, and frees the port."""
        for session in self._sessions:
            session.end()
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    async def serve(self, context: Any) -> None:
        """One stream, from its first request to its end."""
        await self._turn_strangers_away(context)
        first = await context.read()
        if not isinstance(first, DiscoveryRequest):
            return
        proven, listed = self._identity is not None, self._listed()
        node = read_node(first.node, context.peer(), proven=proven, refused=self._refused, listed=listed)
        if node.cluster != self._gateway:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"no gateway {node.cluster!r} here: node.cluster of the bootstrap must be {self._gateway!r}",
            )
        if node.doubt is not None:
            log.warning("Envoy %.100r: %s", node.id, node.doubt)
        memory = self._recall(node)
        told = first.version_info
        if told and (memory is None or memory.is_stale(first.type_url, told)):
            memory = await self._ask(node, memory)
        session = Session(node, memory, clock=self._clock, warmth=self._warmth, tell=self._publish)
        if not session.can_take(first):
            return
        self._sessions.append(session)
        self._publish()
        try:
            await session.run(read_request(first), context, self._snapshots)
        finally:
            self._sessions.remove(session)
            self._remember(session)
            self._publish()

    async def _turn_strangers_away(self, context: Any) -> None:
        if self._identity is None:
            return
        why = find_stranger(context.auth_context(), self._identity)
        if why is not None:
            log.warning("xDS: %s asked and was turned away: %s", context.peer(), why)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)

    def _recall(self, node: EnvoyNode) -> Memory | None:
        # An Envoy is often back before its broken stream is noticed.
        for session in reversed(self._sessions):
            if (session.node.id, session.node.build) == (node.id, node.build):
                return session.conversation.memory
        return self._memories.get((node.id, node.build))

    async def _ask(self, node: EnvoyNode, old: Memory | None) -> Memory | None:
        # What another operator told it since is not known here; what it refuses it refuses still.
        asked = None
        if node.stats is not None and self._ask_back is not None:
            asked = await self._ask_back(node.stats)
        return asked if old is None else replace(asked or Memory(), verdicts=old.verdicts)

    def _remember(self, session: Session) -> None:
        key = (session.node.id, session.node.build)
        if any((other.node.id, other.node.build) == key for other in self._sessions):
            return
        self._memories[key] = session.conversation.memory
        self._memories.move_to_end(key)
        if len(self._memories) > REMEMBERED:
            self._memories.popitem(last=False)

    def _publish(self) -> None:
        newest: dict[str, EnvoyState] = {session.state.id: session.state for session in self._sessions}
        self.states.set(EnvoyStates(tuple(state for _, state in sorted(newest.items()))))


class _Service(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    def __init__(self, server: AdsServer) -> None:
        self._ads = server

    async def StreamAggregatedResources(self, _requests: object, context: Any) -> None:  # noqa: N802
        await self._ads.serve(context)

    async def DeltaAggregatedResources(self, _requests: object, context: Any) -> None:  # noqa: N802
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "state of the world only: set api_type GRPC in ads_config")
