"""An Envoy that saw every edit holds in the end what a fresh one is given."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random
from typing import Any

import pytest

from support.envoy import RealEnvoy
from support.stack import Stack, node, policy

pytestmark = pytest.mark.envoy
EDITS = 12
PATIENCE = 10.0  # seconds


def draw_objects(random: Random) -> list[dict[str, Any]]:
    """One to four nodes and up to two policies, each drawn anew."""
    objects = []
    for name in random.sample("abcd", random.randint(1, 4)):
        models = [{"name": m, "servedAs": random.choice((m, f"own-{m}"))} for m in random.sample("mno", 2)]
        objects.append(node(name, random.randint(9001, 9004), engine="openai", models=models))
    for name in random.sample("pq", random.randint(0, 2)):
        spec: dict[str, Any] = {"retry": {"attempts": random.randint(0, 3)}}
        if random.random() < 0.5:
            spec["match"] = {"models": [random.choice("mno")]}
            spec["fallback"] = [{"model": random.choice("mno")}]
        objects.append(policy(name, **spec))
    return objects


async def read_held(envoy: RealEnvoy) -> dict[str, Any]:
    """The dynamic configuration by type and name, without times, versions and health."""
    held: dict[str, Any] = {}
    for section in json.loads(await envoy.admin("/config_dump?include_eds"))["configs"]:
        kind = section["@type"].rpartition(".")[2]
        for name, items in section.items():
            if name.startswith("dynamic_"):
                held[f"{kind} {name}"] = sorted(json.dumps(clean(i), sort_keys=True) for i in items)
    return held


def clean(item: Any) -> Any:
    if isinstance(item, dict):
        left = ("last_updated", "version_info", "health_status")
        return {key: clean(value) for key, value in item.items() if key not in left}
    return [clean(each) for each in item] if isinstance(item, list) else item


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_long_lived_envoy_ends_like_a_fresh_one(seed: int) -> None:
    random = Random(seed)
    async with Stack(*draw_objects(random)) as stack:
        for number in range(EDITS):
            if number % 4 == 3:
                stack.write({"kind": "ModelNode", "metadata": {"name": "a"}, "spec": {"engine": "odd"}})
            await stack.apply(*draw_objects(random))
        (old,) = stack.envoys
        assert "rejected" not in old.log
        fresh = await stack.add_envoy()
        held = await read_held(old)
        assert held["ClustersConfigDump dynamic_active_clusters"]
        assert held["ListenersConfigDump dynamic_listeners"]
        # It has accepted everything; its listener warms a moment longer.
        end = time.monotonic() + PATIENCE
        while (fresh_held := await read_held(fresh)) != held and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert fresh_held == held
