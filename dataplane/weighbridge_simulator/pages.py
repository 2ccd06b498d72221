"""What engines print about themselves, under the names that they really use. Pure.

Names from the documentation of production metrics of vLLM and SGLang, from text-generation-inference's reference of
metrics, tensorrtllm_backend's README and llama.cpp's server. `custom` is an in-house server with names of its own. A
lie changes what the engine says, not the machine. Those that count tokens when an answer ends count them so here, too;
their calls of the model rise by the tokens generated, as with one request at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan
from typing import Final, Literal, assert_never

from weighbridge_simulator.exposition import Histogram, escape, family, number
from weighbridge_simulator.service import BLOCK

EngineKind = Literal["vllm", "sglang", "tgi", "triton", "llamacpp", "custom", "plain"]
LOG_STEPS: Final = 40  # of SGLang's, between two looks at its own numbers
#: Where an engine says that it is well.
HEALTH: Final[Mapping[EngineKind, str]] = {"triton": "/health/ready"}


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
    answered_tokens: int  # generated tokens of the answers that have ended
    answered_prompts: int = 0  # prompt tokens of these
    prefix_caching: bool = True
    queried_tokens: int = 0  # of prompts, looked for in the cache of prefixes
    cached_tokens: int = 0  # found there

    def idle(self) -> Report:
        """The same node saying that it does nothing; its counters stand."""
        return replace(self, running=0.0, waiting=0.0, kv=0.0, throughput=0.0)

    def half(self) -> Report:
        """The same node saying half of its load."""
        return replace(self, running=self.running // 2, waiting=self.waiting // 2, kv=self.kv / 2)

    def not_a_number(self) -> Report:
        """The same node with broken gauges."""
        return replace(self, running=nan, waiting=nan, kv=nan, throughput=nan)


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
            case "tgi":
                lines += _tgi(report)
            case "triton":
                lines += _triton(report)
            case "llamacpp":
                lines += _llamacpp(report)
            case "custom":
                lines += _custom(report, histogram)
            case "plain":
                pass
            case _:
                assert_never(kind)
    return "\n".join(lines) + "\n"


def _vllm(report: Report, histogram: Histogram) -> list[str]:
    labels = f'engine="0",model_name="{escape(report.model)}"'
    blocks = report.kv_tokens // BLOCK
    cache = {
        "block_size": BLOCK,
        "cache_dtype": "auto",
        "enable_prefix_caching": str(report.prefix_caching),
        "gpu_memory_utilization": "0.9",
        "kv_cache_size_tokens": report.kv_tokens,
        "num_gpu_blocks": blocks,
        "num_gpu_blocks_override": "None",
    }
    info = ",".join(f'{name}="{value}"' for name, value in cache.items())
    aborted = f'{labels},finished_reason="abort"'
    stopped = f'{labels},finished_reason="stop"'
    return [
        *family("vllm:num_requests_running", "gauge", "Requests in model execution batches.", labels, report.running),
        *family("vllm:num_requests_waiting", "gauge", "Requests waiting to be processed.", labels, report.waiting),
        *family("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent.", labels, report.kv),
        *family("vllm:prompt_tokens_total", "counter", "Prefill tokens processed.", labels, report.prompt_tokens),
        *family("vllm:generation_tokens_total", "counter", "Generation tokens.", labels, report.generated_tokens),
        *family("vllm:prefix_cache_queries_total", "counter", "Queried tokens.", labels, report.queried_tokens),
        *family("vllm:prefix_cache_hits_total", "counter", "Cached tokens.", labels, report.cached_tokens),
        *family("vllm:request_success_total", "counter", "Requests by finish.", stopped, report.ended),
        f"vllm:request_success_total{{{aborted}}} {report.cancelled}",
        *family("vllm:cache_config_info", "gauge", "Information of the CacheConfig.", f'engine="0",{info}', 1),
        *histogram.lines("vllm:time_to_first_token_seconds", labels),
    ]


def _sglang(report: Report, histogram: Histogram) -> list[str]:
    # All but the last family count where a request ends; that one when the engine logs, each 40 steps.
    labels = f'engine_type="unified",model_name="{escape(report.model)}",pp_rank="0",tp_rank="0"'
    used = report.kv * report.kv_tokens
    return [
        *family("sglang:num_running_reqs", "gauge", "The number of running requests.", labels, report.running),
        *family("sglang:num_queue_reqs", "gauge", "Requests in the waiting queue.", labels, report.waiting),
        *family("sglang:token_usage", "gauge", "The token usage.", labels, report.kv),
        *family("sglang:num_used_tokens", "gauge", "The number of used tokens.", labels, used),
        *family("sglang:max_total_num_tokens", "gauge", "Maximum tokens in KV cache.", labels, report.kv_tokens),
        *family("sglang:gen_throughput", "gauge", "Generation throughput (token/s).", labels, report.throughput),
        *family("sglang:prompt_tokens_total", "counter", "Prefill tokens processed.", labels, report.answered_prompts),
        *family("sglang:generation_tokens_total", "counter", "Generation tokens.", labels, report.answered_tokens),
        *family(
            "sglang:realtime_tokens_total",
            "counter",
            "Tokens processed, updated on each log interval.",
            f'{labels},mode="decode"',
            report.generated_tokens // LOG_STEPS * LOG_STEPS,
        ),
        *family("sglang:num_requests_total", "counter", "Requests processed.", labels, report.ended),
        *family("sglang:num_aborted_requests_total", "counter", "Requests aborted.", labels, report.cancelled),
        *histogram.lines("sglang:time_to_first_token_seconds", labels),
    ]


def _tgi(report: Report) -> list[str]:
    held = report.kv * report.kv_tokens
    return [
        *family("tgi_request_success", "counter", "Number of successful requests", "", report.ended),
        *family(
            "tgi_batch_inference_count",
            "counter",
            "Inference calls per method",
            'method="decode"',
            report.generated_tokens,
        ),
        *family("tgi_batch_current_size", "gauge", "Current batch size", "", report.running),
        *family("tgi_queue_size", "gauge", "Current queue size", "", report.waiting),
        *family("tgi_batch_current_max_tokens", "gauge", "Maximum tokens for the current batch", "", held),
        *family("tgi_batch_max_total_tokens", "gauge", "Maximum amount of tokens in total.", "", report.kv_tokens),
        *_total("tgi_request_generated_tokens", "Generated tokens per request", "", report.answered_tokens, report),
        *_total("tgi_request_input_length", "Input token length per request", "", report.prompt_tokens, report),
    ]


def _triton(report: Report) -> list[str]:
    model = 'model="tensorrt_llm",version="1"'
    blocks = report.kv_tokens // BLOCK
    requests = {
        "waiting": report.waiting,
        "scheduled": report.running,
        "active": report.running + report.waiting,
        "max": 2048,
    }
    cache = {"fraction": report.kv, "tokens_per": BLOCK, "used": report.kv * blocks, "max": blocks}
    general = {"iteration_counter": report.generated_tokens}
    response = f'{model},response_metric_type="total_output_tokens"'
    asked = f'{model},response_metric_type="total_input_tokens"'
    return [
        *_kinds("nv_trt_llm_request_metrics", "TRT LLM request metrics", "request_type", requests, model),
        *_kinds("nv_trt_llm_kv_cache_block_metrics", "TRT LLM KV cache", "kv_cache_block_type", cache, model),
        *_kinds("nv_trt_llm_general_metrics", "General TRT LLM metrics", "general_type", general, model),
        *_total("nv_llm_output_token_len", "TRT LLM response metrics", response, report.answered_tokens, report),
        *_total("nv_llm_input_token_len", "TRT LLM response metrics", asked, report.answered_prompts, report),
    ]


def _llamacpp(report: Report) -> list[str]:
    return [
        *family("llamacpp:prompt_tokens_total", "counter", "Prompt tokens processed", "", report.prompt_tokens),
        *family("llamacpp:tokens_predicted_total", "counter", "Tokens generated", "", report.answered_tokens),
        *family(
            "llamacpp:n_decode_total", "counter", "Total number of llama_decode() calls", "", report.generated_tokens
        ),
        *family("llamacpp:predicted_tokens_seconds", "gauge", "Average throughput", "", report.throughput),
        *family("llamacpp:requests_processing", "gauge", "Number of requests processing", "", report.running),
        *family("llamacpp:requests_deferred", "gauge", "Number of requests deferred", "", report.waiting),
    ]


def _custom(report: Report, histogram: Histogram) -> list[str]:
    stages = {"queued": report.waiting, "decoding": report.running}
    cache = {"used": report.kv * report.kv_tokens, "all": report.kv_tokens}
    return [
        *_kinds("inference_requests", "Requests inside.", "stage", stages),
        *_kinds("inference_cache_tokens", "Tokens of cache.", "part", cache),
        *family("inference_tokens_total", "counter", "Tokens generated.", "", report.generated_tokens),
        *histogram.lines("inference_first_token_seconds", ""),
    ]


def _kinds(name: str, text: str, label: str, values: Mapping[str, float], labels: str = "") -> list[str]:
    """A gauge with a series for each value of a label."""
    before = f"{labels}," if labels else ""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
    return [*lines, *(f'{name}{{{before}{label}="{kind}"}} {number(value)}' for kind, value in values.items())]


def _total(name: str, text: str, labels: str, total: float, report: Report) -> list[str]:
    """A histogram of what requests had, of which nothing but the sum is of use."""
    before, own = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} histogram",
        f'{name}_bucket{{{before}le="+Inf"}} {report.ended}',
        f"{name}_sum{own} {number(total)}",
        f"{name}_count{own} {report.ended}",
    ]
