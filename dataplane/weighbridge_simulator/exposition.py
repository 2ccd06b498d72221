"""What a node prints about itself, under the names that engines, node_exporter and DCGM really use. Pure.

Names from vLLM's and SGLang's documentation of production metrics, node_exporter's collectors and dcgm-exporter's
default counters; the text is Prometheus' exposition format 0.0.4. A lie changes what the engine says, not the machine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from typing import Literal, assert_never

EngineKind = Literal["vllm", "sglang", "plain"]
TEXT = b"text/plain; version=0.0.4; charset=utf-8"
BLOCK = 16  # tokens of a KV block
_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)


class Histogram:
    """Counts of seconds in the buckets that vLLM uses for the time to the first token."""

    __slots__ = ("count", "counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0
        self.count = 0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(_BOUNDS, seconds)] += 1
        self.total += seconds
        self.count += 1

    def lines(self, name: str, labels: str) -> list[str]:
        """As exposition text."""
        reached, lines = 0, [f"# HELP {name} Histogram of {name.partition(':')[2]}.", f"# TYPE {name} histogram"]
        for bound, count in zip((*_BOUNDS, inf), self.counts, strict=True):
            reached += count
            lines.append(f'{name}_bucket{{{labels},le="{"+Inf" if bound == inf else bound}"}} {reached}')
        return [*lines, f"{name}_count{{{labels}}} {reached}", f"{name}_sum{{{labels}}} {_number(self.total)}"]


@dataclass(frozen=True, slots=True)
class Report:
    """What an engine says of itself: sequences, KV share, room in tokens and counters."""

    model: str
    running: float
    waiting: float
    kv: float
    kv_tokens: int
    generated_tokens: int
    prompt_tokens: int
    throughput: float  # generated tokens a second since the last look
    ended: int
    cancelled: int

    def idle(self) -> Report:
        """The same node saying that it does nothing; its counters stand."""
        return replace(self, running=0.0, waiting=0.0, kv=0.0, throughput=0.0)

    def half(self) -> Report:
        """The same node saying half of its load."""
        return replace(self, running=self.running // 2, waiting=self.waiting // 2, kv=self.kv / 2)

    def not_a_number(self) -> Report:
        """The same node with broken gauges."""
        return replace(self, running=nan, waiting=nan, kv=nan, throughput=nan)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's numbers: CPU seconds by mode over all cores, memory in bytes."""

    cores: int
    busy_seconds: float
    idle_seconds: float
    memory_total: int
    memory_available: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's numbers: use in 0..1, memory in bytes."""

    use: float
    memory_total: int
    memory_used: int


def print_engine(kind: EngineKind, report: Report | None, histogram: Histogram) -> str:
    """An engine's page. None: the engine's own metrics are absent, as they are for a plain server."""
    process = ["# HELP process_open_fds Number of open file descriptors.", "# TYPE process_open_fds gauge"]
    lines = [*process, "process_open_fds 42"]
    if report is not None:
        match kind:
            case "vllm":
                lines += _vllm(report, histogram)
            case "sglang":
                lines += _sglang(report, histogram)
            case "plain":
                pass
            case _:
                assert_never(kind)
    return "\n".join(lines) + "\n"


def _vllm(report: Report, histogram: Histogram) -> list[str]:
    labels = f'engine="0",model_name="{_escape(report.model)}"'
    blocks = report.kv_tokens // BLOCK
    cache = {
        "block_size": BLOCK,
        "cache_dtype": "auto",
        "enable_prefix_caching": "False",
        "gpu_memory_utilization": "0.9",
        "kv_cache_size_tokens": report.kv_tokens,
        "num_gpu_blocks": blocks,
        "num_gpu_blocks_override": "None",
    }
    info = ",".join(f'{name}="{value}"' for name, value in cache.items())
    aborted = f'{labels},finished_reason="abort"'
    stopped = f'{labels},finished_reason="stop"'
    return [
        *_family("vllm:num_requests_running", "gauge", "Requests in model execution batches.", labels, report.running),
        *_family("vllm:num_requests_waiting", "gauge", "Requests waiting to be processed.", labels, report.waiting),
        *_family("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent.", labels, report.kv),
        *_family("vllm:prompt_tokens_total", "counter", "Prefill tokens processed.", labels, report.prompt_tokens),
        *_family("vllm:generation_tokens_total", "counter", "Generation tokens.", labels, report.generated_tokens),
        *_family("vllm:request_success_total", "counter", "Requests by finish.", stopped, report.ended),
        f"vllm:request_success_total{{{aborted}}} {report.cancelled}",
        *_family("vllm:cache_config_info", "gauge", "Information of the CacheConfig.", f'engine="0",{info}', 1),
        *histogram.lines("vllm:time_to_first_token_seconds", labels),
    ]


def _sglang(report: Report, histogram: Histogram) -> list[str]:
    labels = f'engine_type="unified",model_name="{_escape(report.model)}",pp_rank="0",tp_rank="0"'
    used = report.kv * report.kv_tokens
    return [
        *_family("sglang:num_running_reqs", "gauge", "The number of running requests.", labels, report.running),
        *_family("sglang:num_queue_reqs", "gauge", "Requests in the waiting queue.", labels, report.waiting),
        *_family("sglang:token_usage", "gauge", "The token usage.", labels, report.kv),
        *_family("sglang:num_used_tokens", "gauge", "The number of used tokens.", labels, used),
        *_family("sglang:max_total_num_tokens", "gauge", "Maximum tokens in KV cache.", labels, report.kv_tokens),
        *_family("sglang:gen_throughput", "gauge", "Generation throughput (token/s).", labels, report.throughput),
        *_family("sglang:prompt_tokens_total", "counter", "Prefill tokens processed.", labels, report.prompt_tokens),
        *_family("sglang:generation_tokens_total", "counter", "Generation tokens.", labels, report.generated_tokens),
        *_family("sglang:num_requests_total", "counter", "Requests processed.", labels, report.ended),
        *_family("sglang:num_aborted_requests_total", "counter", "Requests aborted.", labels, report.cancelled),
        *histogram.lines("sglang:time_to_first_token_seconds", labels),
    ]


def print_machine(machine: Machine) -> str:
    """A page as node_exporter has it, as far as CPU and memory go."""
    lines = [
        "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.",
        "# TYPE node_cpu_seconds_total counter",
    ]
    for core in range(machine.cores):
        modes = {"idle": machine.idle_seconds, "iowait": 0.0, "system": machine.busy_seconds * 0.1}
        modes["user"] = machine.busy_seconds * 0.9
        for mode, seconds in modes.items():
            lines.append(f'node_cpu_seconds_total{{cpu="{core}",mode="{mode}"}} {_number(seconds / machine.cores)}')
    total, available = machine.memory_total, machine.memory_available
    lines += _family("node_memory_MemTotal_bytes", "gauge", "Memory information field MemTotal_bytes.", "", total)
    lines += _family(
        "node_memory_MemAvailable_bytes", "gauge", "Memory information field MemAvailable_bytes.", "", available
    )
    return "\n".join(lines) + "\n"


def print_gpu(gpu: Gpu, node: str) -> str:
    """A page as dcgm-exporter has it. Frame buffer in MiB."""
    labels = f'gpu="0",UUID="GPU-simulated-0",device="nvidia0",modelName="Simulated",Hostname="{_escape(node)}"'
    used, free = gpu.memory_used >> 20, (gpu.memory_total - gpu.memory_used) >> 20
    lines = [
        *_family("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", labels, round(gpu.use * 100)),
        *_family("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", labels, free),
        *_family("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", labels, used),
    ]
    return "\n".join(lines) + "\n"


def print_requests(requests: Mapping[str, int], cancelled: int, node: str) -> str:
    """The simulator's own counts: requests received for each model, and those whose client went away."""
    labels = f'node="{_escape(node)}"'
    lines = ["# HELP sim_requests_total Requests received.", "# TYPE sim_requests_total counter"]
    for model, count in sorted(requests.items()):
        lines.append(f'sim_requests_total{{{labels},model="{_escape(model)}"}} {count}')
    lines += _family("sim_cancelled_total", "counter", "Requests whose client went away.", labels, cancelled)
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, labels: str, value: float) -> list[str]:
    series = f"{name}{{{labels}}}" if labels else name
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{series} {_number(value)}"]


def _number(value: float) -> str:
    if isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(round(value, 6))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
