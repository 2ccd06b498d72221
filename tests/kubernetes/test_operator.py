"""The operator as a process that reads a real API server, with a real Envoy that serves by it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.apiproxy import ApiProxy, empty
from support.apiserver import ApiServer
from support.installed import MODEL, Installed, condition
from support.scene import wait_for

pytestmark = pytest.mark.envoy
MODELS = [{"name": MODEL}]


@pytest.fixture
async def gateway(api_server: ApiServer, namespace: str) -> AsyncIterator[Installed]:
    async with Installed(api_server, namespace, "a", "b", "c") as made:
        yield made


def place(gateway: Installed, name: str) -> dict[str, object]:
    return {"host": gateway.address, "port": gateway.fleet.nodes[name].port}


async def test_pods_behind_a_service_serve_one_by_one_and_a_terminating_one_gets_nothing_new(
    gateway: Installed,
) -> None:
    gateway.apply_service("qwen", 80, "http")
    for name in "ab":
        gateway.apply_slice("qwen", name, gateway.fleet.nodes[name].port, "http")
    gateway.apply("ModelNode", "n", spec={"engine": "vllm", "service": {"name": "qwen", "port": 80}, "models": MODELS})
    await gateway.start_envoy("envoy-0", await gateway.start_operator())
    await gateway.ask_until({"n/a", "n/b"})
    ports = {name: gateway.fleet.nodes[name].port for name in "abc"}
    gateway.apply_slice("qwen", "a", ports["a"], "http", ready=False, terminating=True)
    await gateway.ask_until({"n/b"})
    gateway.apply_slice("qwen", "c", ports["c"], "http")
    await gateway.ask_until({"n/b", "n/c"})
    await wait_for(lambda: is_told(gateway, "n", {"b", "c"}))
    for name in "bc":
        gateway.apply_slice("qwen", name, ports[name], "http", ready=False)
    await wait_for(lambda: is_reason(gateway, "n", "NoEndpoints"))
    assert "no endpoint is ready (2 not ready, 1 terminating); look at its pods" in str(await gateway.report())
    assert (await gateway.ask())[0] == 503


async def is_told(gateway: Installed, name: str, pods: set[str]) -> bool:
    report = await gateway.report()
    told = {e["name"] for each in report.get("objects", ()) if each["name"] == name for e in each["endpoints"]}
    return told == pods and condition(report, name, "Programmed")[0] == "True"


async def is_reason(gateway: Installed, name: str, reason: str) -> bool:
    return condition(await gateway.report(), name, "ResolvedRefs")[1] == reason


async def test_neither_a_dead_api_server_nor_a_restart_without_it_nor_an_empty_first_list_stops_a_request(
    gateway: Installed, tmp_path: Path
) -> None:
    for name in "ab":
        gateway.apply("ModelNode", name, spec={"engine": "vllm", "address": place(gateway, name), "models": MODELS})
    await gateway.start_envoy("envoy-0", await gateway.start_operator())
    await gateway.ask_until({"a", "b"})
    asking, answers = True, []

    async def keep_asking() -> None:
        while asking:
            answers.append(await gateway.ask())
            await asyncio.sleep(0.01)

    task = asyncio.create_task(keep_asking())
    gateway.server.kill()
    try:
        await asyncio.sleep(1.0)
        await gateway.operators["operator-0"].kill()
        await gateway.start_operator()
        await wait_for(lambda: says(gateway, "can't be listed yet"))
        await asyncio.sleep(1.0)
    finally:
        gateway.server.start()
    await wait_for(lambda: knows(gateway, 2))
    await gateway.operators["operator-0"].kill()
    async with ApiProxy(gateway.server, tmp_path) as proxy:
        proxy.lie = empty("modelnodes")
        await gateway.start_operator(kubeconfig=proxy.kubeconfig)
        await wait_for(lambda: knows(gateway, 2))
        gateway.apply("ModelNode", "c", spec={"engine": "vllm", "address": place(gateway, "c"), "models": MODELS})
        await gateway.ask_until({"a", "b", "c"})
        await gateway.operators["operator-0"].kill()
    asking = False
    await task
    assert len(answers) > 100
    assert {status for status, _ in answers} == {200}


async def says(gateway: Installed, words: str) -> bool:
    return words in gateway.log()


async def knows(gateway: Installed, count: int) -> bool:
    return len((await gateway.report()).get("objects", ())) == count


async def test_each_replica_knows_what_every_envoy_of_the_service_holds(gateway: Installed) -> None:
    gateway.apply_service("envoys", 9902, "stats")
    gateway.apply("ModelNode", "a", spec={"engine": "vllm", "address": place(gateway, "a"), "models": MODELS})
    ports = {}
    for number, name in enumerate(("operator-0", "operator-1")):
        xds = await gateway.start_operator(name, "--envoys-service", "envoys")
        await gateway.start_envoy(f"envoy-{number}", xds)
        ports[f"envoy-{number}"] = gateway.envoys[f"envoy-{number}"][1]
    for envoy, port in ports.items():
        gateway.apply_slice("envoys", envoy, port, "stats")
    for name in gateway.operators:
        await wait_for(lambda name=name: is_programmed(gateway, name, "a", envoys=2))
    # The second operator freezes: what its Envoy lacks then is known to the first one.
    frozen = gateway.operators["operator-1"]
    frozen.send(signal.SIGSTOP)
    try:
        gateway.apply("ModelNode", "b", spec={"engine": "vllm", "address": place(gateway, "b"), "models": MODELS})
        await wait_for(lambda: lacks(gateway, "b", "envoy-1 does not hold it yet"))
    finally:
        frozen.send(signal.SIGCONT)
    await wait_for(lambda: is_programmed(gateway, "operator-0", "b", envoys=2))
    # An Envoy that is silent makes the counts unknown; one that is on its way out may be silent.
    await gateway.envoys["envoy-1"][0].stop()
    await wait_for(lambda: lacks(gateway, "a", "envoy-1 does not hold it yet"))
    gateway.apply_slice("envoys", "envoy-1", ports["envoy-1"], "stats", ready=False, terminating=True)
    await wait_for(lambda: is_programmed(gateway, "operator-0", "a", envoys=1))


async def is_programmed(gateway: Installed, operator: str, name: str, envoys: int) -> bool:
    report = await gateway.report(operator)
    return condition(report, name, "Programmed")[0] == "True" and len(report["envoys"]) == envoys


async def lacks(gateway: Installed, name: str, words: str) -> bool:
    return words in condition(await gateway.report(), name, "Programmed")[2]
