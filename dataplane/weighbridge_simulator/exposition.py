"""What a machine and its GPU print, under the names that node_exporter and DCGM really use, and its format. Pure.

Names from node_exporter's collectors and dcgm-exporter's default counters; the text is Prometheus' exposition format
0.0.4. What engines print is in pages.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isnan

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)


class Histogram:
    """Counts of seconds in the buckets that vLLM uses for the time to the first token."""

    __slots__ = ("count", "counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0
        self.count = 0

    def observe(self, seconds: float, sequences: int = 1) -> None:
        """Count a request's first token, of each of its sequences."""
        self.counts[bisect_left(_BOUNDS, seconds)] += sequences
        self.total += sequences * seconds
        self.count += sequences

    def lines(self, name: str, labels: str) -> list[str]:
        """As exposition text."""
        before, own = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
        reached, lines = 0, [f"# HELP {name} Histogram of {name.partition(':')[2]}.", f"# TYPE {name} histogram"]
        for bound, count in zip((*_BOUNDS, inf), self.counts, strict=True):
            reached += count
            lines.append(f'{name}_bucket{{{before}le="{"+Inf" if bound == inf else bound}"}} {reached}')
        return [*lines, f"{name}_count{own} {reached}", f"{name}_sum{own} {number(self.total)}"]


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
            lines.append(f'node_cpu_seconds_total{{cpu="{core}",mode="{mode}"}} {number(seconds / machine.cores)}')
    total, available = machine.memory_total, machine.memory_available
    lines += family("node_memory_MemTotal_bytes", "gauge", "Memory information field MemTotal_bytes.", "", total)
    lines += family(
        "node_memory_MemAvailable_bytes", "gauge", "Memory information field MemAvailable_bytes.", "", available
    )
    return "\n".join(lines) + "\n"


def print_gpu(gpu: Gpu, node: str) -> str:
    """A page as dcgm-exporter has it. Frame buffer in MiB."""
    labels = f'gpu="0",UUID="GPU-simulated-0",device="nvidia0",modelName="Simulated",Hostname="{escape(node)}"'
    used, free = gpu.memory_used >> 20, (gpu.memory_total - gpu.memory_used) >> 20
    lines = [
        *family("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", labels, round(gpu.use * 100)),
        *family("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", labels, free),
        *family("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", labels, used),
    ]
    return "\n".join(lines) + "\n"


def print_requests(requests: Mapping[str, int], cancelled: int, node: str) -> str:
    """The simulator's own counts: requests received for each model, and those whose client went away."""
    labels = f'node="{escape(node)}"'
    lines = ["# HELP sim_requests_total Requests received.", "# TYPE sim_requests_total counter"]
    for model, count in sorted(requests.items()):
        lines.append(f'sim_requests_total{{{labels},model="{escape(model)}"}} {count}')
    lines += family("sim_cancelled_total", "counter", "Requests whose client went away.", labels, cancelled)
    return "\n".join(lines) + "\n"


def family(name: str, kind: str, text: str, labels: str, value: float) -> list[str]:
    """A family of one series, with its two lines before it."""
    series = f"{name}{{{labels}}}" if labels else name
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{series} {number(value)}"]


def number(value: float) -> str:
    """A value as it is printed."""
    if isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(round(value, 6))


def escape(value: str) -> str:
    """A label's value as it is printed."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
