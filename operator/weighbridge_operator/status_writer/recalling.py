"""A new operator begins with the last one's weights, as they stand on the objects, never with a flash of neutral.

Only what a living writer kept true is taken: the Lease tells when it was renewed last.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from weighbridge_operator.cluster_api import ApiFault, ClusterApi
from weighbridge_operator.core.memory import RECALLED, NodeMemory, PoolMemory, recall
from weighbridge_operator.core.tick import Weighed
from weighbridge_operator.settings import KubernetesSettings
from weighbridge_operator.status_writer.api import StatusApi
from weighbridge_operator.status_writer.election import Election, Record
from weighbridge_operator.status_writer.statuses import Status, Subject

PATIENCE = 3.0  # seconds; Envoys serve by what they hold meanwhile
OLDEST = 3600.0  # seconds since the Lease was renewed; older weights say nothing any more
log = logging.getLogger("weighbridge.status")


async def recall_weights(settings: KubernetesSettings) -> Weighed:
    """What the objects' statuses say of the last weights; neutral where they say nothing in time."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(_read, settings), PATIENCE)
    except TimeoutError:
        log.warning("the statuses could not be read in %g s: weights start neutral", PATIENCE)
    except ApiFault as fault:
        log.warning("the statuses cannot be read: weights start neutral (%s)", fault)
    return Weighed()


def build_memories(statuses: Mapping[Subject, Status], now: float) -> dict[str, PoolMemory]:
    """By pool. What is not as the gateway writes it is left out: anyone with the right may have written it."""
    pools: dict[str, dict[str, NodeMemory]] = defaultdict(dict)
    for subject, status in statuses.items():
        for pool, server, memory in _read_servers(subject, status.get("endpoints") or (), now):
            pools[pool][server] = memory
    return {pool: PoolMemory(now, nodes=dict(sorted(nodes.items())), profile=RECALLED) for pool, nodes in pools.items()}


def _read(settings: KubernetesSettings) -> Weighed:
    api = StatusApi(ClusterApi.connect(), settings.watch)
    record = api.read_lease(Election(settings.lease, settings.namespace, settings.identity))
    if record is None or not _is_recent(record):
        return Weighed()
    return Weighed(memories=build_memories(api.read_statuses(), time.monotonic()))


def _is_recent(record: Record) -> bool:
    try:
        renewed = datetime.fromisoformat(record.renewed)
        return (datetime.now(UTC) - renewed).total_seconds() < OLDEST
    except (ValueError, TypeError):
        return False


def _read_servers(
    subject: Subject, endpoints: Iterable[Mapping[str, Any]], now: float
) -> Iterator[tuple[str, str, NodeMemory]]:
    node = f"{subject.namespace}/{subject.name}"
    for said in endpoints:
        weight, factors = said.get("weight"), said.get("factors") or {}
        trimmed, left, speed = (factors.get(name, 1.0) for name in ("trimmed", "left", "speed"))
        sound = all(isinstance(value, int | float) and 0 < value < math.inf for value in (trimmed, left, speed))
        if not isinstance(weight, int) or weight < 1 or not factors or not sound:
            continue
        server = node if said["server"] == said["address"] else f"{node}/{said['server']}"
        yield said["pool"], server, recall(weight, trimmed, left, speed, now)
