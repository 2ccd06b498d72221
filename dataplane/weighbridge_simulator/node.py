"""One simulated node without its sockets: an engine, what is done to it, and what it says of itself.

The machine's numbers follow the engine, as `machine` says; the GPU is busy while anything runs. Overrides replace them.
Time is given, in seconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from weighbridge_simulator.control import Control, describe_control, patch_control
from weighbridge_simulator.engine import Engine, EngineSpec, Event, Job
from weighbridge_simulator.exposition import Gpu, Histogram, Machine, print_gpu, print_machine, print_requests
from weighbridge_simulator.machine import use_cpu, use_memory
from weighbridge_simulator.pages import EngineKind, Report, print_engine

CORES = 4
MEMORY = 64 << 30
GPU_MEMORY = 80 << 30
_WINDOW = 0.5  # seconds over which the GPU's use is averaged, at least


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """How a node starts. Port 0: the system chooses; None: not opened. `models` are (served name, own name)."""

    name: str = "node"
    host: str = "127.0.0.1"
    port: int = 0
    engine: EngineKind = "vllm"
    models: tuple[tuple[str, str], ...] = (("sim", "sim"),)
    control: Control = field(default_factory=Control)
    base: str = "/v1"
    answer: int = 64  # tokens, where the client does not say
    longest: int = 4096  # tokens, whatever the client says
    every: int = 1  # tokens per chunk of a stream; 0: only the first token and the rest
    zero: bool = False  # answer at once, without an engine
    machine: bool = False  # print CPU, memory and GPU on /metrics too
    machine_port: int | None = None
    gpu_port: int | None = None
    key: str | None = None
    insisted_host: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    seed: int = 1
    compute: tuple[tuple[str, float], ...] = ()  # fields of EngineSpec that do not follow the size

    def __post_init__(self) -> None:
        self.shape(self.control.size)
        if not self.models:
            raise ValueError(f"node {self.name}: needs at least one model")
        if not self.base.startswith("/") or self.base != self.base.rstrip("/"):
            raise ValueError(f"node {self.name}: base must start with / and not end with it, not {self.base!r}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"node {self.name}: TLS needs both a certificate and a key")
        if self.answer < 1 or self.longest < 1 or self.every < 0:
            raise ValueError(f"node {self.name}: answer and longest must be 1 or more, every 0 or more")

    def shape(self, size: float) -> EngineSpec:
        """What the engine can do at this size. ValueError names what is not above 0."""
        return replace(EngineSpec.unit(size), **dict[str, Any](self.compute))


class Node:
    """The state of a node. Every method takes the present moment, which never goes back."""

    def __init__(self, spec: NodeSpec, now: float) -> None:
        self.spec = spec
        self.control = spec.control
        self.engine = Engine(spec.shape(spec.control.size), now, spec.control.slow)
        self.requests: Counter[str] = Counter()
        self._histogram = Histogram()
        self._settled = now
        self._cpu_busy = self._cpu_idle = 0.0
        self._gpu_use = 0.0
        self._gpu_seen = (now, 0.0)
        self._tokens_seen = (now, 0.0)
        self._throughput = 0.0
        self._answered = self._answered_prompts = 0
        self._lied_since = self._report(now)  # what was true when the present lie began
        self._lied_page = self._engine_page(self._lied_since)
        self.engine.freeze(spec.control.freeze != "off", now)

    @property
    def served(self) -> tuple[str, ...]:
        """The names of models that the node answers to."""
        return tuple(name for name, _ in self.spec.models)

    def submit(self, job: Job, now: float) -> None:
        """Take a job. ValueError if it could never fit."""
        self._settle(now)
        self.engine.submit(job, now)

    def cancel(self, job: Job, now: float) -> None:
        """Give a job up."""
        self._settle(now)
        self.engine.cancel(job, now)

    def advance(self, now: float) -> list[Event]:
        """What has happened since the last call."""
        self._settle(now)
        events = self.engine.advance(now)
        for job, kind, at in events:
            if kind == "first":
                self._histogram.observe(at - job.submitted, job.n)
            elif kind == "end":
                self._answered += job.answer * job.n
                self._answered_prompts += job.prompt
        return events

    def change(self, patch: object, now: float) -> None:
        """Apply a patch of the control. ControlError if it makes no sense, and then nothing changes."""
        before, after = self.control, patch_control(self.control, self.spec.control, patch)
        self._settle(now)
        if after.lie != before.lie:
            self._lied_since = self._report(now)
            self._lied_page = self._engine_page(self._lied_since)
        if after.slow != before.slow:
            self.engine.speed(after.slow, now)
        if after.size != before.size:
            self.engine.resize(self.spec.shape(after.size), now)
        if after.freeze != before.freeze:
            self.engine.freeze(after.freeze != "off", now)
        self.control = after

    def page(self, now: float) -> str:
        """What /metrics says."""
        text = self._lied_page if self.control.lie == "frozen" else self._engine_page(self._said(now))
        text += print_requests(self.requests, self.engine.sample(now).cancelled, self.spec.name)
        return text + self.machine_page(now) + self.gpu_page(now) if self.spec.machine else text

    def machine_page(self, now: float) -> str:
        """What the machine's node_exporter says."""
        self._settle(now)
        used = self.control.memory
        if used is None:
            used = use_memory(self.engine.sample(now).kv)
        return print_machine(Machine(CORES, self._cpu_busy, self._cpu_idle, MEMORY, round(MEMORY * (1.0 - used))))

    def gpu_page(self, now: float) -> str:
        """What the GPU's exporter says."""
        at, busy = self._gpu_seen
        if now - at >= _WINDOW:
            seconds = self.engine.sample(now).busy_seconds
            self._gpu_use = min(1.0, (seconds - busy) / (now - at))
            self._gpu_seen = (now, seconds)
        use = self._gpu_use if self.control.gpu is None else self.control.gpu
        memory = 0.9 if self.control.gpu_memory is None else self.control.gpu_memory
        return print_gpu(Gpu(use, GPU_MEMORY, round(GPU_MEMORY * memory)), self.spec.name)

    def state(self, now: float) -> dict[str, Any]:
        """All that there is to know, as JSON."""
        sample = self.engine.sample(now)
        return {
            "name": self.spec.name,
            "engine": self.spec.engine,
            "models": list(self.served),
            "control": describe_control(self.control),
            "requests": dict(sorted(self.requests.items())),
            "running": sample.running,
            "waiting": sample.waiting,
            "kv": round(sample.kv, 4),
            "kv_tokens": self.engine.spec.kv_tokens,
            "generated_tokens": sample.whole_tokens,
            "prompt_tokens": sample.prompt_tokens,
            "cached_tokens": sample.cached_tokens,
            "busy_seconds": round(sample.busy_seconds, 3),
            "ended": sample.ended,
            "cancelled": sample.cancelled,
        }

    def _settle(self, now: float) -> None:
        """Count the machine's CPU time up to `now`, as full as the node was since the last call."""
        elapsed = now - self._settled
        if elapsed <= 0.0:
            return
        self._settled = now
        use = self.control.cpu
        if use is None:
            sample = self.engine.sample(self.engine.since)
            use = use_cpu(float(sample.running > 0), sample.running / self.engine.spec.sequences)
        self._cpu_busy += elapsed * CORES * use
        self._cpu_idle += elapsed * CORES * (1.0 - use)

    def _said(self, now: float) -> Report | None:
        """The engine's report, or the lie that it tells; None when it says nothing."""
        match self.control.lie:
            case "absent":
                return None
            case "idle":
                return self._lied_since.idle()
            case "nan":
                return self._report(now).not_a_number()
            case "half":
                return self._report(now).half()
            case "off" | "frozen":
                return self._report(now)
            case _:
                assert_never(self.control.lie)

    def _engine_page(self, report: Report | None) -> str:
        return print_engine(self.spec.engine, report, self._histogram)

    def _report(self, now: float) -> Report:
        sample = self.engine.sample(now)
        at, tokens = self._tokens_seen
        if now - at >= _WINDOW:
            self._throughput = (sample.generated_tokens - tokens) / (now - at)
            self._tokens_seen = (now, sample.generated_tokens)
        waiting = sample.waiting if self.control.queue is None else self.control.queue
        return Report(
            model=self.served[0],
            running=sample.running,
            waiting=waiting,
            kv=sample.kv,
            kv_tokens=self.engine.spec.kv_tokens,
            generated_tokens=sample.whole_tokens,
            prompt_tokens=sample.prompt_tokens,
            throughput=self._throughput,
            ended=sample.ended,
            cancelled=sample.cancelled,
            answered_tokens=self._answered,
            answered_prompts=self._answered_prompts,
            prefix_caching=self.engine.spec.prefix_caching,
            queried_tokens=sample.queried_tokens,
            cached_tokens=sample.cached_tokens,
        )
