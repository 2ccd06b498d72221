"""Many ModelNodes beside the three of a scene, which nobody is ever to ask anything: are they left alone?"""

from __future__ import annotations

import asyncio
from typing import Any

from support.cluster_scene import ClusterScene
from support.scene import NAMES, describe_node

QUIET = 8.0  # seconds without a write after which all is told


async def fill(scene: ClusterScene, count: int) -> None:
    """Stores them, in pools of ten."""
    for number in range(count):
        address = {"host": f"127.1.{number >> 8}.{number & 255}", "port": 9}
        spec = {"engine": "openai", "address": address, "models": [{"name": f"model-{number // 10:04}"}]}
        await scene.apply(scene.own(describe_node(f"node-{number:05}", 9, **spec)))


async def is_settled(scene: ClusterScene) -> bool:
    """Whether every object has its status, and none was written for a while."""
    if not all(item.get("status", {}).get("conditions") for item in await _list(scene)):
        await asyncio.sleep(1.0)
        return False
    before = await read_versions(scene)
    await asyncio.sleep(QUIET)
    return await read_versions(scene) == before


async def read_versions(scene: ClusterScene) -> dict[str, str]:
    """The resourceVersion of each, by name; of the crowd alone."""
    versions = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in await _list(scene)}
    return {name: version for name, version in versions.items() if name not in NAMES}


async def _list(scene: ClusterScene) -> list[dict[str, Any]]:
    path = f"/apis/weighbridge.dev/v1alpha1/namespaces/{scene.namespace}/modelnodes"
    return list((await asyncio.to_thread(scene.server.request, "GET", path))["items"])
