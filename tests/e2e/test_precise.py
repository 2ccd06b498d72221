"""A node for each request (`balance.precise`), and what ends cost: the data plane's, its container's, an Envoy's."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from support.clients import Traffic, connect, stream
from support.cluster import RELEASE, Cluster, wait_until
from support.release import install

pytestmark = pytest.mark.e2e
OPERATOR, ENVOY = f"{RELEASE}-operator", f"{RELEASE}-envoy"
PYTHON = "/opt/weighbridge/bin/python"
#: Ends the data plane itself, as a crash would; its keeper is process 1.
KILL = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if path.parent.name != str(os.getpid()) and b"weighbridge_api.console" in path.read_bytes():
        os.kill(int(path.parent.name), signal.SIGKILL)
        print("killed")
"""
END = "import os, signal; os.kill(1, signal.SIGTERM)"
ASK = """
import os, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(f"http://{os.environ['POD_IP']}:9904{sys.argv[1]}", timeout=5) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture(scope="module")
def choosing(cluster: Cluster) -> Iterator[None]:
    """The demo's policy asks for it; then, with an upgrade, each Envoy gets a data plane."""
    ask_for_it(cluster, True)
    wait_reason(cluster, "NoDataPlane")
    install(cluster, "--set=dataplane.enabled=true")
    wait_reason(cluster, "Programmed")
    yield
    ask_for_it(cluster, False)
    install(cluster)
    cluster.wait_rolled(ENVOY)


def ask_for_it(cluster: Cluster, precise: bool) -> None:
    change = json.dumps({"spec": {"balance": {"precise": precise}}})
    cluster.kubectl("patch", "routepolicy", "demo", "--type=merge", "-p", change)


def wait_reason(cluster: Cluster, reason: str) -> None:
    wait_until(
        lambda: cluster.condition("routepolicy", "demo", "Programmed").get("reason") == reason,
        f"the policy is programmed, with reason {reason}",
        60,
    )


def run_beside(cluster: Cluster, pod: str, script: str, *arguments: str) -> str:
    """Runs a script in the data plane's container of an Envoy's pod."""
    return cluster.kubectl("exec", pod, "-c", "dataplane", "--", PYTHON, "-c", script, *arguments)


def read_starts(cluster: Cluster) -> dict[str, int]:
    """How often the data plane's container was started anew, by pod, of those that are ready."""
    return {
        pod: status["restartCount"]
        for pod in cluster.pods("envoy")
        for status in cluster.get("pod", pod)["status"]["initContainerStatuses"]
        if status["name"] == "dataplane"
    }


async def wait_precise(traffic: Traffic) -> Counter[str]:
    """Until nodes are named for nearly all of some dozen answers; what went where meanwhile."""
    async with asyncio.timeout(90):
        while True:
            first = len(traffic.answers)
            await traffic.wait_for(40)
            came = traffic.answers[first:]
            if sum(choice == "precise" for _, choice in came) >= 0.9 * len(came):
                return Counter(node for node, _ in came)


async def wait_weights(traffic: Traffic, first: int) -> None:
    """Until some answers, of those from this one on, were decided by the weights. Soon enough a node is named again."""
    async with asyncio.timeout(90):
        while sum(choice == "weights" for _, choice in traffic.answers[first:]) < 10:
            await traffic.wait_for(1)


def count_by_pod(cluster: Cluster, got: Counter[str]) -> tuple[int, list[int]]:
    """Answers of the large node, and of each small one."""
    (large,), small = cluster.pods("demo-large"), cluster.pods("demo-small")
    large_got, *small_got = (sum(n for node, n in got.items() if pod in node) for pod in (large, *small))
    return large_got, small_got


async def test_a_node_is_named_for_nearly_every_request(cluster: Cluster, choosing: None, gateway: str) -> None:
    async with Traffic(gateway, rate=15, tokens=24) as traffic:
        got = await wait_precise(traffic)
        got += await wait_precise(traffic)
        await traffic.finish()
    assert traffic.lost == []
    large, small = count_by_pod(cluster, got)
    assert large > max(small), got
    told = await asyncio.to_thread(run_beside, cluster, cluster.pods("envoy")[0], ASK, "/metrics")
    assert "\nweighbridge_dataplane_fresh_nodes 3\n" in told
    assert (await asyncio.to_thread(run_beside, cluster, cluster.pods("envoy")[0], ASK, "/choices")).strip() == "404"


def hear_each_other(cluster: Cluster) -> bool:
    """Whether the data plane of each Envoy hears, and tells, all the others'."""
    pods = cluster.pods("envoy")
    others = len(pods) - 1
    wanted = [f"\nweighbridge_dataplane_{name} {others}\n" for name in ("peers", "peers_told", "peer_envoys")]
    told = [run_beside(cluster, pod, ASK, "/metrics") for pod in pods]
    return others > 0 and all(line in page for page in told for line in wanted)


async def test_data_planes_hear_each_other_by_the_operators_certificate(cluster: Cluster, choosing: None) -> None:
    # kubelet brings a Secret that was not there at first within two minutes.
    await asyncio.to_thread(wait_until, lambda: hear_each_other(cluster), "they hear each other", 180)


async def test_killed_it_costs_no_request_and_no_pod_its_place(cluster: Cluster, choosing: None, gateway: str) -> None:
    before = await asyncio.to_thread(read_starts, cluster)
    async with Traffic(gateway, rate=15, tokens=24) as traffic:
        await wait_precise(traffic)
        killed = len(traffic.answers)
        told = await asyncio.gather(*(asyncio.to_thread(run_beside, cluster, pod, KILL) for pod in before))
        assert told == ["killed\n"] * 2
        await wait_weights(traffic, killed)
        assert await asyncio.to_thread(read_starts, cluster) == before
        await wait_precise(traffic)
        await traffic.finish()
    assert traffic.lost == []
    got = Counter(node for node, choice in traffic.answers[killed:] if choice == "weights")
    large, small = count_by_pod(cluster, got)
    assert min(large, sum(small)) > 0, got


async def test_the_end_of_its_container_costs_no_request(cluster: Cluster, choosing: None, gateway: str) -> None:
    before = await asyncio.to_thread(read_starts, cluster)
    victim = min(before)
    async with Traffic(gateway, rate=15) as traffic:
        await wait_precise(traffic)
        await asyncio.to_thread(run_beside, cluster, victim, END)
        wanted = before | {victim: before[victim] + 1}
        await asyncio.to_thread(wait_until, lambda: read_starts(cluster) == wanted, "its container is back", 60)
        await wait_precise(traffic)
        await traffic.finish()
    assert traffic.lost == []


async def test_a_roll_of_envoy_cuts_no_stream_that_was_chosen_for(
    cluster: Cluster, choosing: None, gateway: str
) -> None:
    before = cluster.pods("envoy")
    begun = asyncio.Semaphore(0)
    async with connect(gateway) as ai, Traffic(gateway) as traffic:
        await wait_precise(traffic)
        streams = [asyncio.create_task(stream(ai, 1200, begun)) for _ in range(8)]
        for _ in streams:
            await asyncio.wait_for(begun.acquire(), 60)
        rolling = asyncio.create_task(asyncio.to_thread(cluster.restart, ENVOY))
        said = await asyncio.to_thread(ask_while_it_drains, cluster, before)
        await rolling
        parts = await asyncio.gather(*streams)
        await wait_precise(traffic)
        await traffic.finish()
    assert all(count > 10 for count in parts)
    assert traffic.lost == []
    assert not set(before) & set(cluster.pods("envoy"))
    assert said.split() == ["200", "ok"]
    await asyncio.to_thread(wait_until, lambda: hear_each_other(cluster), "the new ones hear each other", 180)


def ask_while_it_drains(cluster: Cluster, pods: list[str]) -> str:
    """What the data plane says beside one of these Envoys that was told to end three seconds ago, and still drains."""

    def find() -> str:
        for pod in cluster.get("pods", "-l", "app.kubernetes.io/component=envoy")["items"]:
            about = pod["metadata"]
            if about["name"] in pods and "deletionTimestamp" in about:
                grace = timedelta(seconds=about["deletionGracePeriodSeconds"])
                told = datetime.fromisoformat(about["deletionTimestamp"]) - grace
                if datetime.now(UTC) - told > timedelta(seconds=3):
                    return str(about["name"])
        return ""

    return run_beside(cluster, wait_until(find, "an Envoy drains", 120), ASK, "/healthz")


async def test_a_roll_of_the_operator_leaves_the_choice_as_it_is(
    cluster: Cluster, choosing: None, gateway: str
) -> None:
    async with Traffic(gateway, rate=15) as traffic:
        await wait_precise(traffic)
        before = len(traffic.answers)
        await asyncio.to_thread(cluster.restart, OPERATOR)
        await traffic.wait_for(60)
        seen = Counter(choice for _, choice in traffic.answers[before:])
        await traffic.finish()
    assert traffic.lost == []
    # On a busy machine some wait for longer than the 20 ms that they have; a choice that had ended would miss for 10 s.
    assert seen["precise"] >= 0.75 * seen.total(), seen
