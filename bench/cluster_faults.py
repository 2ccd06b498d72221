"""Faults in a cluster under 200 requests a second: what is lost, and how long it takes until all is as it was.

    make bench-cluster-faults                                           # all, each fault lasts a minute; ten minutes
    PYTHONPATH=tests .venv/bin/python bench/cluster_faults.py --seconds 5 replica-killed

A real API server, two operators with `--kubernetes` as processes, two real Envoys on one port, three simulated nodes, a
real Prometheus; all on loopback, where a test's runner lifts the operator's rule against loopback nodes. The Envoys ask
one address, which leads each new connection to the next operator, living or dead, as a Service does at its worst.
"lost" is any answer that is not the expected one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from support.apiproxy import empty
from support.apiserver import ApiServer
from support.assets import NoAssetsError, bring_assets
from support.cluster_scene import ClusterScene
from support.crowd import fill, is_settled, read_versions
from support.losses import Figure, around, count
from support.prometheus import BINARY
from support.scene import NAMES, describe_node, wait_for

UNEVEN = {"a": {"capacity": 4}, "b": {"capacity": 2}, "c": {"capacity": 1}}
#: Known to Prometheus alone.
TOLD = {
    name: {"capacity": capacity, "metrics": {"prometheus": {}}} for name, capacity in zip(NAMES, (2, 1, 1), strict=True)
}
FLOOD = 60.0  # requests a second from others on one node
LIMIT = 120.0  # seconds


async def killed_operators(server: ApiServer, seconds: float) -> Figure:
    """F1: kill -9 of both operators; weights hold, and after their return a change takes effect."""
    async with ClusterScene(server, specs=UNEVEN) as scene:
        told: dict[str, Any] = {}

        async def fall_and_rise() -> None:
            before = await scene.weights()
            for replica in scene.replicas:
                replica.kill()
            await asyncio.sleep(seconds)
            told["weights_held"] = await scene.weights() == before and all(len(set(w.values())) == 3 for w in before)
            told.update(await _return(scene))
            told["weights_after"] = await scene.weights() == before

        records = await around(scene, fall_and_rise())
        return count("both operators killed", records, **told)


async def _return(scene: ClusterScene) -> dict[str, float]:
    """Starts both operators and changes something; seconds until they answer, and from then until it takes effect."""
    began = time.monotonic()
    for replica in scene.replicas:
        replica.__enter__()
    await wait_for(lambda: _answer(scene), LIMIT)
    back = time.monotonic() - began
    stored, effect = await scene.change()
    return {"back_s": round(back, 2), "stored_s": stored, "effect_s": effect}


async def _answer(scene: ClusterScene) -> bool:
    return all([await scene.is_well(f"http://127.0.0.1:{replica.admin}/readyz") for replica in scene.replicas])


async def killed_api_server(server: ApiServer, seconds: float) -> Figure:
    """F1: the API server away; weights follow load meanwhile, and after its return a change takes effect."""
    async with ClusterScene(server) as scene:
        told: dict[str, Any] = {}

        async def fall_and_rise() -> None:
            server.kill()
            began = time.monotonic()
            await scene.control("a", flood=FLOOD)
            told["flooded_node_lighter_s"] = round(await wait_for(lambda: _is_lighter(scene), LIMIT), 1)
            told["weights"] = await scene.weights()
            await scene.control("a", flood=0.0)  # else a new cluster would wait for the health of a node that is full
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
            server.launch()
            await asyncio.to_thread(server.wait_ready)
            told["stored_s"], told["effect_s"] = await scene.change()

        try:
            records = await around(scene, fall_and_rise())
        except BaseException:
            server.kill()
            server.launch()
            raise
        return count("API server killed", records, **told)


async def _is_lighter(scene: ClusterScene) -> bool:
    """Whether node a weighs less than the others at each Envoy."""
    return all(len(w) == len(NAMES) and w["a"] < min(w["b"], w["c"]) for w in await scene.weights())


async def killed_prometheus(server: ApiServer, seconds: float) -> Figure:
    """F1: Prometheus away, which alone knows the load: room is held, the rest decays to neutral, the objects say so."""
    async with ClusterScene(server, specs=TOLD, prometheus=True) as scene:
        told: dict[str, Any] = {}
        neutral = await scene.weights()

        async def is_neutral() -> bool:
            return await scene.weights() == neutral

        async def fall_and_rise() -> None:
            await scene.control("b", flood=FLOOD)
            told["flood_seen_s"] = round(await wait_for(lambda: _not(is_neutral), LIMIT), 1)
            told["weights"] = [neutral[0], (await scene.weights())[0]]
            scene.prometheus.kill()
            began = time.monotonic()
            told["said_s"] = round(await wait_for(lambda: _is_fresh(scene, "False"), LIMIT), 1)
            told["said"] = (await scene.conditions("b", "MetricsFresh"))["reason"]
            await wait_for(is_neutral, LIMIT)
            told["neutral_s"] = round(time.monotonic() - began, 1)
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
            told["room_held"] = await is_neutral() and len(set(neutral[0].values())) == 2
            await scene.prometheus.start()
            told["fresh_again_s"] = round(await wait_for(lambda: _is_fresh(scene, "True"), LIMIT), 1)

        records = await around(scene, fall_and_rise())
        return count("Prometheus killed", records, **told)


async def _not(what: Callable[[], Awaitable[bool]]) -> bool:
    return not await what()


async def _is_fresh(scene: ClusterScene, status: str) -> bool:
    """Whether every object says so of its numbers."""
    return all([(await scene.conditions(name, "MetricsFresh")).get("status") == status for name in NAMES])


async def killed_replica(server: ApiServer, seconds: float) -> Figure:
    """One operator of two killed: its Envoy is soon with the other one. Twice, once for each."""
    async with ClusterScene(server) as scene:
        took: list[float] = []

        async def fall_and_rise() -> None:
            for number in (0, 1):
                replica, other = scene.replicas[number], 1 - number

                async def together(other: int = other) -> bool:
                    return await _count_connected(scene, other) == len(scene.envoys)

                scene.replicas[number].kill()
                took.append(round(await wait_for(together, LIMIT), 2))
                await asyncio.sleep(min(seconds, 5.0))
                replica.__enter__()
                await wait_for(lambda: _answer(scene), LIMIT)
                await scene.change()

        connected = [await _count_connected(scene, number) for number in (0, 1)]
        records = await around(scene, fall_and_rise())
        return count("one operator of two killed", records, envoys_before=connected, reconnected_s=took)


async def _count_connected(scene: ClusterScene, number: int) -> int:
    """How many Envoys have their stream at this replica and hold everything."""
    envoys = (await scene.status(number)).get("envoys", ())
    return sum(1 for envoy in envoys if envoy["connected"] is not None and envoy["current"])


async def invalid_object(server: ApiServer, _: float, nodes: int = 1000) -> Figure:
    """F8: one invalid ModelNode among many valid ones: its condition says why, and no other object is written."""
    async with ClusterScene(server) as scene:
        await fill(scene, nodes - len(NAMES))
        told: dict[str, Any] = {
            "nodes": nodes,
            "settled_s": round(await wait_for(lambda: is_settled(scene), 300.0), 0),
        }

        async def spoil() -> None:
            before = await read_versions(scene)
            for name, why, spec in FAULTY:
                await scene.apply(scene.own(describe_node(name, 8000, **spec)))

                async def said(name: str = name) -> bool:
                    return (await scene.conditions(name, "Ready")).get("status") == "False"

                told[f"{why}_s"] = round(await wait_for(said, LIMIT), 2)
                told[why] = (await scene.conditions(name, "Ready"))["reason"]
            await asyncio.sleep(5.0)
            after = await read_versions(scene)
            told["others_written"] = sum(1 for name, version in before.items() if after[name] != version)

        records = await around(scene, spoil())
        return count("one invalid ModelNode", records, **told)


#: What neither the schema nor CEL can refuse.
FAULTY: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("nowhere", "no_such_host", {"address": {"host": "nowhere.invalid", "port": 8000}}),
    ("keyless", "no_such_secret", {"engine": "openai", "address": {"host": "127.3.0.1", "port": 9},
                                   "credentials": {"secretRef": {"name": "missing", "key": "k"}}}),
)  # fmt: skip


async def restarted_operators(server: ApiServer, seconds: float) -> Figure:
    """F2: operators start while the API server is away, then while it answers an empty list once; nothing goes."""
    async with ClusterScene(server, proxied=True) as scene:
        told: dict[str, Any] = {}
        fewest = [len(NAMES)]

        async def watch() -> None:
            while True:
                fewest.extend(len(weights) for weights in await scene.weights())
                await asyncio.sleep(0.2)

        async def restart() -> None:
            server.kill()
            for replica in scene.replicas:
                replica.kill()
            for replica in scene.replicas:
                replica.__enter__()
            await asyncio.sleep(seconds)
            server.launch()
            await asyncio.to_thread(server.wait_ready)
            told["stored_s"], told["effect_s"] = await scene.change()
            for plural in ("modelnodes", "routepolicies"):
                for replica in scene.replicas:
                    replica.kill()
                    scene.proxy.lie = empty(plural)
                    replica.__enter__()
                    await asyncio.to_thread(replica.wait_published)
            await scene.change()

        watching = asyncio.create_task(watch())
        try:
            records = await around(scene, restart())
        finally:
            watching.cancel()
        return count("operators restarted meanwhile", records, **told, fewest_nodes=min(fewest))


Fault = Callable[[ApiServer, float], Awaitable[Figure]]
FAULTS: dict[str, Fault] = {
    "operators-killed": killed_operators,
    "api-server-killed": killed_api_server,
    "prometheus-killed": killed_prometheus,
    "replica-killed": killed_replica,
    "invalid-object": invalid_object,
    "operators-restarted": restarted_operators,
}


async def run(server: ApiServer, names: list[str], seconds: float) -> None:
    """All of them in one loop: a server that one fault starts again would end with its thread."""
    for name in names:
        figure = await FAULTS[name](server, seconds)
        print(f"{figure.fault:32} asked {figure.asked:5}  lost {figure.lost:4}  {json.dumps(figure.told)}", flush=True)


def main() -> int:
    """2 if it can't run here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fault", nargs="*", choices=[*FAULTS, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a fault lasts (%(default)s)")
    given = parser.parse_args()
    names = given.fault or list(FAULTS)
    if BINARY is None and "prometheus-killed" in names:
        print("not run: prometheus-killed, for there is no prometheus in PATH", file=sys.stderr)
        names = [name for name in names if name != "prometheus-killed"]
    try:
        assets = bring_assets(lambda line: print(line, file=sys.stderr))
    except NoAssetsError as error:
        print(error, file=sys.stderr)
        return 2
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # of the proxy, whose callers die by intent
    with ApiServer(assets) as server:
        asyncio.run(run(server, names, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
