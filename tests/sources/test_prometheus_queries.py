"""Every text that is sent, on the real Prometheus, which scraped what engines and exporters print."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from support.prometheus import Asking, Exporters, RealPrometheus, age, job, needs_prometheus, run_together, values
from weighbridge_metrics.sample import LoadSample
from weighbridge_metrics.signals import extract
from weighbridge_operator.sources.prometheus_answers import OwnQuery, Wanted
from weighbridge_operator.sources.prometheus_queries import CONTAINER_QUERIES, ENGINE_QUERIES, MACHINE_QUERIES

pytestmark = needs_prometheus
PAGES = Path(__file__).parent / "fixtures"
POD = (("namespace", "models"), ("pod", "qwen-0"))
SIGNALS = [f.name for f in fields(LoadSample) if f.name not in {"node", "at", "source", "error", "origins", "lasts"}]


def page(name: str) -> str:
    return (PAGES / f"{name}.prom").read_text()


def grow(text: str, family: str, step: float, began: float, label: str = "") -> str:
    """The page with counters of a family as they are now: `step` more each second."""
    more = step * (time.monotonic() - began)
    pattern = rf"^({family}\{{[^}}\n]*{label}[^}}\n]*\}}) ([0-9.e+]+)$"
    return re.sub(pattern, lambda m: f"{m[1]} {float(m[2]) + more:.3f}", text, flags=re.MULTILINE)


PRINTED = (
    ("vllm", "vllm-0.8"),
    ("vllm", "vllm-0.10"),
    ("vllm", "vllm-2026-dp2"),
    ("sglang", "sglang-0.4"),
    ("sglang", "sglang-2026-dp2-tp2"),
    ("tgi", "tgi-2.0"),
    ("tgi", "tgi-3.3"),
    ("triton", "triton-trtllm-24.01"),
    ("triton", "triton-trtllm-2026"),
    ("triton", "triton-trtllm-documented"),
    ("triton", "trtllm-serve-2026"),
    ("llamacpp", "llamacpp-2024"),
    ("llamacpp", "llamacpp-2026"),
    ("openai", "dcgm-exporter-4.5"),
    ("openai", "node_exporter-1.12"),
)


async def prometheus_tells_what_each_page_itself_tells() -> None:
    async with Exporters() as exporters:
        exporters.pages |= {f"/{name}": page(name) for _, name in PRINTED}
        jobs = [job(name, exporters.place, {"instance": f"10.0.0.{n}:80"}) for n, (_, name) in enumerate(PRINTED)]
        wanted = [
            Wanted(name, engine, instances=frozenset({f"10.0.0.{n}:80"})) for n, (engine, name) in enumerate(PRINTED)
        ]
        async with (
            RealPrometheus(jobs) as prometheus,
            Asking([prometheus.url], wanted) as asking,
        ):
            knowledge = await asking.until(lambda k: all(values(k, name) for _, name in PRINTED))
    for engine, name in PRINTED:
        direct, _ = extract(name, engine, [page(name)], {}, 0.0)
        expected = {signal: getattr(direct, signal) for signal in SIGNALS if getattr(direct, signal) is not None}
        assert expected, name
        assert values(knowledge, name) == pytest.approx(expected), name
        assert knowledge.found[name].error is None


async def shares_of_counters_are_those_between_two_scrapes() -> None:
    began = time.monotonic()
    first = "vllm:time_to_first_token_seconds"

    def machine() -> str:
        idle = grow(page("node_exporter-1.12"), "node_cpu_seconds_total", 0.25, began, 'mode="idle"')
        return grow(idle, "node_cpu_seconds_total", 0.75, began, 'mode="user"')

    def engine() -> str:
        return grow(grow(page("vllm-0.10"), f"{first}_count", 10.0, began), f"{first}_sum", 4.0, began)

    async with Exporters() as exporters:
        exporters.pages |= {"/machine": machine, "/engine": engine}
        jobs = [job("machine", exporters.place), job("engine", exporters.place)]
        async with RealPrometheus(jobs) as prometheus:
            wanted = Wanted("lab/a", "vllm", instances=frozenset({exporters.place}))
            async with Asking([prometheus.url], [wanted]) as asking:
                knowledge = await asking.until(lambda k: {"cpu", "latency"} <= values(k, "lab/a").keys())
    assert values(knowledge, "lab/a")["cpu"] == pytest.approx(0.75, abs=0.02)
    assert values(knowledge, "lab/a")["latency"] == pytest.approx(0.4, abs=0.02)


LIMITS = ("kube-state-metrics-2", "kube-state-metrics-1.9", None)  # None: the kubelet alone knows them
SETUPS = tuple((limits, honest) for limits in LIMITS for honest in (True, False))


async def a_pod_is_judged_by_its_own_containers_and_their_limits() -> None:
    began = time.monotonic()

    def kubelet() -> str:
        # As the kubelet does: with the time at which it looked itself, 3 s ago here, and 30 s at the pod as a whole.
        text = grow(page("kubelet-cadvisor-1.30"), "container_cpu_usage_seconds_total", 3.0, began, 'container="vllm"')
        ago = {'container=""': 30}
        return re.sub(
            r'^(container_\w+\{(container="")?.*)$',
            lambda m: f"{m[1]} {round((time.time() - ago.get(m[2], 3)) * 1000)}",
            text,
            flags=re.MULTILINE,
        )

    def scrape(number: int, limits: str | None, honest: bool) -> list[dict[str, Any]]:
        pushed = {"pod": "exporter-x", "namespace": "monitoring", "container": "exporter", "cluster": f"c{number}"}
        kinds = ("kubelet", limits) if limits else ("kubelet",)
        return [
            job(f"{kind}-{number}", exporters.place, pushed, honor_labels=honest, metrics_path=f"/{kind}")
            for kind in kinds
        ]

    async with Exporters() as exporters:
        exporters.pages |= {"/kubelet": kubelet} | {f"/{name}": page(name) for name in LIMITS if name}
        jobs = [one for number, setup in enumerate(SETUPS) for one in scrape(number, *setup)]
        wanted = [Wanted(f"{n}", "openai", labels=(("cluster", f"c{n}"), *POD)) for n in range(len(SETUPS))]
        async with (
            RealPrometheus(jobs) as prometheus,
            Asking([prometheus.url], wanted) as asking,
        ):
            knowledge = await asking.until(
                lambda k: all({"cpu", "memory"} <= values(k, each.node).keys() for each in wanted)
            )
            ages = [age(knowledge, each.node, "cpu") for each in wanted]
    for number, setup in enumerate(SETUPS):
        assert values(knowledge, f"{number}") == pytest.approx({"cpu": 0.75, "memory": 0.75}, abs=0.05), setup
        # Where the target's own labels pushed the exporter's aside, an empty one is not to be told from none.
        assert 3.0 <= ages[number] < (6.5 if setup[1] else 34), setup


async def a_gpu_belongs_to_the_pod_that_has_it_whatever_the_exporters_own_pod_is() -> None:
    async with Exporters() as exporters:
        exporters.pages["/dcgm"] = page("dcgm-exporter-4.5-pods")
        target = {"pod": "dcgm-exporter-7xk2p", "namespace": "gpu-operator"}
        wanted = [
            Wanted("models/qwen/qwen-0", "openai", labels=POD),
            Wanted("models/qwen/qwen-1", "openai", labels=(("namespace", "models"), ("pod", "qwen-1"))),
            Wanted("models/qwen/qwen-2", "openai", labels=(("namespace", "models"), ("pod", "qwen-2"))),
        ]
        async with (
            RealPrometheus([job("dcgm", exporters.place, target)]) as prometheus,
            Asking([prometheus.url], wanted) as asking,
        ):
            knowledge = await asking.until(lambda k: bool(values(k, "models/qwen/qwen-0")))
    assert values(knowledge, "models/qwen/qwen-0") == {"gpu": 0.9, "gpu_memory": 0.9}
    assert values(knowledge, "models/qwen/qwen-1") == {"gpu": 0.1, "gpu_memory": 0.25}
    error = knowledge.found["models/qwen/qwen-2"].error or ""
    assert error.startswith('no series in Prometheus that is known for load matches {namespace="models", pod="qwen-2"}')


async def one_page_scraped_by_two_jobs_counts_once_and_of_another_host_not_at_all() -> None:
    async with Exporters() as exporters:
        exporters.pages |= {"/one": page("vllm-0.10"), "/other": page("vllm-0.8")}
        twin = job("twin", exporters.place, metrics_path="/one")
        far = job("other", exporters.place, {"instance": "10.9.9.9:8000"})
        async with RealPrometheus([job("one", exporters.place), twin, far]) as prometheus:
            await prometheus.wait_series("vllm:num_requests_running", 3)
            wanted = [
                Wanted("lab/a", "vllm", instances=frozenset({exporters.place})),
                Wanted("lab/far", "vllm", instances=frozenset({"10.9.9.9:1"}), hosts=frozenset({"10.9.9.9"})),
                Wanted("lab/implied", "vllm", instances=frozenset({"10.1.1.1:1"}), required=False),
            ]
            async with Asking([prometheus.url], wanted) as asking:
                knowledge = await asking.next(2)
    assert values(knowledge, "lab/a")["running"] == 5.0
    assert values(knowledge, "lab/far")["running"] == 12.0, "another port of its host"
    assert "lab/implied" not in knowledge.found, "nobody asked for it by name"


async def the_age_is_that_of_the_scrape_and_grows_when_the_exporter_falls_silent() -> None:
    async with Exporters() as exporters:
        exporters.pages["/a"] = page("vllm-0.10")
        wanted = Wanted("lab/a", "vllm", instances=frozenset({exporters.place}))
        async with (
            RealPrometheus([job("a", exporters.place)], interval="2s") as prometheus,
            Asking([prometheus.url], [wanted]) as asking,
        ):
            await asking.until(lambda k: bool(values(k, "lab/a")))
            knowledge = await asking.next(3)
            assert 0 <= age(knowledge, "lab/a", "running") < 3.5
            del exporters.pages["/a"]
            silent = await asking.until(lambda k: age(k, "lab/a", "running") > 5)
            at = silent.found["lab/a"].numbers["running"].at
            later = await asking.next(3)
    assert later.found["lab/a"].numbers["running"].at == at, "no answer makes an old number younger"


NAN = 'vllm:num_requests_running{model_name="m"} NaN\nvllm:num_requests_waiting{model_name="m"} 4\n'


async def what_is_no_number_is_absent() -> None:
    async with Exporters() as exporters:
        exporters.pages["/a"] = NAN
        wanted = Wanted("lab/a", "vllm", instances=frozenset({exporters.place}))
        async with (
            RealPrometheus([job("a", exporters.place)]) as prometheus,
            Asking([prometheus.url], [wanted]) as asking,
        ):
            knowledge = await asking.until(lambda k: bool(values(k, "lab/a")))
    assert values(knowledge, "lab/a") == {"waiting": 4.0}


OWN = "\n".join(f'my_queue{{shard="{shard}",box="x"}} {shard + 1}' for shard in range(2)) + '\nmy_load{box="x"} 40\n'
OWN_CASES: Mapping[str, tuple[OwnQuery, Any]] = {
    "a selector": (OwnQuery("waiting", 'my_queue{box="x"}'), 3.0),
    "a selector for a share": (OwnQuery("cpu", "my_load"), None),
    "an expression with its time": (OwnQuery("cpu", "sum(my_load) / 100", "min(timestamp(my_load))"), 0.4),
    "an expression alone": (OwnQuery("cpu", "sum(my_load) / 100"), "the query for cpu is no selector"),
    "a hidden range": (OwnQuery("waiting", "my_queue # "), "the query for waiting is no selector"),
    "a subquery": (OwnQuery("waiting", "my_queue[1m:5s]"), "the query for waiting is no selector"),
    "no PromQL": (OwnQuery("waiting", "my_queue{"), "the query for waiting is refused by Prometheus: 1:"),
    "an offset": (OwnQuery("waiting", "my_queue offset 1m"), "the query for waiting is refused by Prometheus: 1:"),
    "another name": (OwnQuery("waiting", "her_queue"), "the query for waiting matches no series"),
    "no time": (OwnQuery("cpu", "sum(my_load) / 100", "min(my_load)"), None),
}


async def a_users_own_query_has_an_age_or_is_refused_with_the_remedy() -> None:
    async with Exporters() as exporters:
        exporters.pages["/own"] = OWN
        wanted = [Wanted(name, "openai", labels=(("box", "x"),), own=(own,)) for name, (own, _) in OWN_CASES.items()]
        async with RealPrometheus([job("own", exporters.place)]) as prometheus:
            await prometheus.wait_series("my_queue", 2)
            async with Asking([prometheus.url], wanted) as asking:
                knowledge = await asking.next(2)
                now = time.monotonic()
    for name, (own, expected) in OWN_CASES.items():
        found = knowledge.found[name]
        if isinstance(expected, float):
            assert found.numbers[own.signal].value == expected
            assert found.numbers[own.signal].own
            assert 0 <= now - found.numbers[own.signal].at < 3
        elif expected is None:
            assert all(now > dated.until for dated in found.numbers.values()), "40 is no share, and 1970 is long ago"
        else:
            assert found.error is not None, name
            assert found.error.startswith(expected)
            assert "spec.metrics.prometheus.times" in found.error or "no selector" not in expected


async def a_series_of_another_node_is_not_taken_for_an_own_query() -> None:
    async with Exporters() as exporters:
        exporters.pages["/own"] = 'my_queue{pod="a"} 1\nmy_queue{pod="b"} 2\n'
        own = (OwnQuery("waiting", "my_queue"),)
        wanted = [Wanted(f"lab/{name}", "openai", labels=(("pod", name),), own=own) for name in ("a", "b")]
        async with (
            RealPrometheus([job("own", exporters.place)]) as prometheus,
            Asking([prometheus.url], wanted) as asking,
        ):
            knowledge = await asking.until(lambda k: bool(values(k, "lab/a")))
    assert [values(knowledge, f"lab/{name}")["waiting"] for name in ("a", "b")] == [1.0, 2.0]


SCENARIOS = (
    prometheus_tells_what_each_page_itself_tells,
    shares_of_counters_are_those_between_two_scrapes,
    a_pod_is_judged_by_its_own_containers_and_their_limits,
    a_gpu_belongs_to_the_pod_that_has_it_whatever_the_exporters_own_pod_is,
    one_page_scraped_by_two_jobs_counts_once_and_of_another_host_not_at_all,
    the_age_is_that_of_the_scrape_and_grows_when_the_exporter_falls_silent,
    what_is_no_number_is_absent,
    a_users_own_query_has_an_age_or_is_refused_with_the_remedy,
    a_series_of_another_node_is_not_taken_for_an_own_query,
)
outcomes = run_together(*SCENARIOS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
async def test_on_a_real_prometheus(outcomes: Mapping[str, asyncio.Task[None]], scenario: str) -> None:
    await outcomes[scenario]


def test_every_query_is_asked_in_a_test() -> None:
    """What is added to the lists above must be added to the tests here."""
    assert [query.name for query in (*ENGINE_QUERIES, *CONTAINER_QUERIES, *MACHINE_QUERIES)] == [
        "llamacpp",
        "sglang",
        "tgi",
        "triton",
        "vllm",
        "containers cpu",
        "containers memory",
        "DCGM",
        "node_exporter cpu",
        "node_exporter memory",
    ]
