"""What each engine and exporter prints about load, as data: each signal and its families, newest first.

A new engine is a new table here; signals.py reads by it. Where series are copies of one number (tensor-parallel ranks,
the processes of one server) they count once; where they share the work (data-parallel ranks, models) they are added up.

The containers' numbers are printed by the kubelet of each machine and their limits by another exporter, so that only
Prometheus brings them together (prometheus_queries.py); the machine's and the GPU's are read from either.

Names were read in: vLLM vllm/v1/metrics/loggers.py and vllm/config/cache.py (0.9 to main of 2026); SGLang
python/sglang/srt/observability/metrics_collector.py (main of 2026) and docs/references/production_metrics (0.4);
node_exporter 1.12.1 collector/fixtures/e2e-output.txt; dcgm-exporter 4.5.3-4.8.2 etc/default-counters.csv; cAdvisor
metrics/prometheus.go and docs/storage/prometheus.md; kube-state-metrics docs/metrics/workload/pod-metrics.md (2.x, and
1.9 for the older names of limits).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, assert_never

#: DCGM prints "no value" as a huge number (int32: 0x7ffffff0, larger in 64 bits and floats).
DCGM_BLANK = float(0x7FFFFFF0)


@dataclass(frozen=True, slots=True)
class Printed:
    """A number as printed: the sum of its series, or the fullest model's mean. `blank` and above means "no value"."""

    family: str
    fold: Literal["sum", "fullest"] = "sum"
    divisor: float = 1.0
    blank: float = math.inf


@dataclass(frozen=True, slots=True)
class Labelled:
    """The product of numbers that are label values, summed over the series."""

    family: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Used:
    """The share used / (used + free)."""

    used: Printed
    free: Printed


@dataclass(frozen=True, slots=True)
class Taken:
    """The share 1 - left / whole."""

    left: Printed
    whole: Printed


@dataclass(frozen=True, slots=True)
class MeanSince:
    """The mean of a histogram's observations since the last reading; none if there were none."""

    histogram: str


@dataclass(frozen=True, slots=True)
class BusySince:
    """The share of processor time since the last reading that was not idle."""

    family: str


@dataclass(frozen=True, slots=True)
class Within:
    """The share used / limit, over the containers that have a limit."""

    used: str
    limit: str


@dataclass(frozen=True, slots=True)
class SpentSince:
    """Processor time since the last reading as a share of the limit (cores), over the containers that have one."""

    used: str
    limit: str


Way = Printed | Labelled | Used | Taken | Within | MeanSince | BusySince | SpentSince


@dataclass(frozen=True, slots=True)
class Table:
    """One exporter: its signals (field of LoadSample, ways to read it), and how it repeats itself in labels."""

    signals: tuple[tuple[str, tuple[Way, ...]], ...]
    #: Labels that tell only copies of one number apart.
    copies: frozenset[str] = frozenset()
    #: A label whose non-empty values mark parts of the series in which it is empty.
    breakdown: str | None = None


VLLM = Table(
    copies=frozenset({"pid"}),  # several API server processes
    signals=(
        ("running", (Printed("vllm:num_requests_running"),)),
        ("waiting", (Printed("vllm:num_requests_waiting"),)),
        # Renamed in 0.9; the old name went in the releases after it.
        ("kv", (Printed("vllm:kv_cache_usage_perc", "fullest"), Printed("vllm:gpu_cache_usage_perc", "fullest"))),
        ("latency", (MeanSince("vllm:time_to_first_token_seconds"),)),
        ("generated_tokens", (Printed("vllm:generation_tokens_total"),)),
        ("prompt_tokens", (Printed("vllm:prompt_tokens_total"),)),
        # The first is right for hybrid models too; in some versions one or the other is the text None.
        (
            "room_tokens",
            (
                Labelled("vllm:cache_config_info", ("kv_cache_size_tokens",)),
                Labelled("vllm:cache_config_info", ("num_gpu_blocks", "block_size")),
            ),
        ),
    ),
)

SGLANG = Table(
    copies=frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"}),
    breakdown="priority",  # with priority scheduling the total has priority="" and its parts stand beside it
    signals=(
        ("running", (Printed("sglang:num_running_reqs"),)),
        ("waiting", (Printed("sglang:num_queue_reqs"),)),
        ("kv", (Printed("sglang:token_usage", "fullest"),)),
        ("latency", (MeanSince("sglang:time_to_first_token_seconds"),)),
        ("generated_tokens", (Printed("sglang:generation_tokens_total"),)),
        ("prompt_tokens", (Printed("sglang:prompt_tokens_total"),)),
        ("room_tokens", (Printed("sglang:max_total_num_tokens"),)),
    ),
)

NODE_EXPORTER = Table(
    signals=(
        # Before 0.16 without units in the names.
        ("cpu", (BusySince("node_cpu_seconds_total"), BusySince("node_cpu"))),
        (
            "memory",
            (
                Taken(Printed("node_memory_MemAvailable_bytes"), Printed("node_memory_MemTotal_bytes")),
                Taken(Printed("node_memory_MemAvailable"), Printed("node_memory_MemTotal")),
            ),
        ),
    ),
)

DCGM = Table(
    signals=(
        ("gpu", (Printed("DCGM_FI_DEV_GPU_UTIL", "fullest", divisor=100.0, blank=DCGM_BLANK),)),
        (
            "gpu_memory",
            (
                Used(
                    Printed("DCGM_FI_DEV_FB_USED", blank=DCGM_BLANK),
                    Printed("DCGM_FI_DEV_FB_FREE", blank=DCGM_BLANK),
                ),
            ),
        ),
    ),
)

#: The limits by kube-state-metrics 2, by 1.9, and by the kubelet itself.
CONTAINERS = Table(
    signals=(
        (
            "cpu",
            (
                SpentSince("container_cpu_usage_seconds_total", "kube_pod_container_resource_limits"),
                SpentSince("container_cpu_usage_seconds_total", "kube_pod_container_resource_limits_cpu_cores"),
                SpentSince("container_cpu_usage_seconds_total", "container_spec_cpu_quota"),
            ),
        ),
        (
            "memory",
            (
                Within("container_memory_working_set_bytes", "kube_pod_container_resource_limits"),
                Within("container_memory_working_set_bytes", "kube_pod_container_resource_limits_memory_bytes"),
                Within("container_memory_working_set_bytes", "container_spec_memory_limit_bytes"),
            ),
        ),
    ),
)

#: An engine that is not here prints nothing about load that we know of.
ENGINES: Mapping[str, Table] = {"vllm": VLLM, "sglang": SGLANG}
#: Exporters that may stand beside any engine.
MACHINE = (NODE_EXPORTER, DCGM)


def narrow(table: Table, signal: str) -> Table:
    """The table's part for one signal."""
    return replace(table, signals=tuple(each for each in table.signals if each[0] == signal))


def families(tables: tuple[Table, ...]) -> frozenset[str]:
    """The full names of every sample that the tables read."""
    return frozenset(name for table in tables for _, ways in table.signals for way in ways for name in _names(way))


def _names(way: Way) -> Iterator[str]:
    """The families that a way reads."""
    match way:
        case Printed(family) | Labelled(family) | BusySince(family):
            yield family
        case Used(one, other) | Taken(one, other):
            yield from (one.family, other.family)
        case Within(used, limit) | SpentSince(used, limit):
            yield from (used, limit)
        case MeanSince(histogram):
            yield from (f"{histogram}_sum", f"{histogram}_count")
        case _:
            assert_never(way)
