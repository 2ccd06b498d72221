"""Several simulated nodes in one process: cheap to run, and each can be reached to change any other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from weighbridge_simulator.node import NodeSpec
from weighbridge_simulator.server import NodeServer


class PortTakenError(OSError):
    """A port that a node should listen on is not to be had."""


class Fleet:
    """Nodes by name. `async with Fleet(specs) as fleet` listens, and leaves nothing behind."""

    def __init__(
        self,
        specs: Iterable[NodeSpec],
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        nodes: dict[str, NodeServer] = {}
        for spec in specs:
            if spec.name in nodes:
                raise ValueError(f"two nodes are named {spec.name}")
            nodes[spec.name] = NodeServer(spec, clock, today)
        self.nodes: Mapping[str, NodeServer] = nodes
        for node in nodes.values():
            node.peers = nodes

    async def start(self) -> None:
        """Listen with all nodes, or with none. PortTakenError says which node could not."""
        for node in self.nodes.values():
            try:
                await node.start()
            except OSError as error:
                await self.stop()
                where = f"{node.spec.host}:{node.spec.port}"
                reason = (error.strerror or str(error)).lower()
                raise PortTakenError(f"node {node.spec.name}: cannot listen on {where}: {reason}") from error

    async def stop(self) -> None:
        """Close everything."""
        for node in self.nodes.values():
            await node.stop()

    async def __aenter__(self) -> Fleet:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def announce(self) -> dict[str, Any]:
        """Where everything listens, as JSON."""
        return {
            "nodes": [
                {
                    "name": name,
                    "host": node.spec.host,
                    "port": node.port,
                    "machine_port": node.machine_port,
                    "gpu_port": node.gpu_port,
                    "engine": node.spec.engine,
                    "models": list(node.node.served),
                    "kv_tokens": node.engine.spec.kv_tokens,
                }
                for name, node in self.nodes.items()
            ]
        }
