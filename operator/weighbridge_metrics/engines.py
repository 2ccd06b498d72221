"""What each engine and exporter prints about load, as data: each signal and its families, newest first.

A new engine is a new table here, and a line of core/engines.py for what else is its own.

The containers' numbers are printed by the kubelet of each machine and their limits by another exporter, so that only
Prometheus brings them together (prometheus_queries.py); the machine's and the GPU's are read from either.

Names were read in: vLLM vllm/v1/metrics/loggers.py and vllm/config/cache.py (0.9 to main of 2026); SGLang
python/sglang/srt/observability/metrics_collector.py (main of 2026) and docs/references/production_metrics (0.4);
text-generation-inference 3.3.7 docs/source/reference/metrics.md, backends/v2 and backends/v3; tensorrtllm_backend
README.md and inflight_batcher_llm/src (2024-01 to 2025-04), TensorRT-LLM triton_backend/inflight_batcher_llm and
tensorrt_llm/metrics/collector.py (main of 2026), Triton docs/user_guide/metrics.md (2026); llama.cpp
tools/server/server-task.cpp (main of 2026) and its README before pull request 13660 (2025-05), which removed KV use;
node_exporter 1.12.1 collector/fixtures/e2e-output.txt; dcgm-exporter 4.5.3-4.8.2 etc/default-counters.csv; cAdvisor
metrics/prometheus.go and docs/storage/prometheus.md; kube-state-metrics docs/metrics/workload/pod-metrics.md (2.x, and
1.9 for the older names of limits).
"""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge_metrics.ways import (
    BusySince,
    Labelled,
    MeanSince,
    Portion,
    Printed,
    Product,
    Rest,
    SpentSince,
    Table,
    Taken,
    Used,
    Way,
    Within,
)

#: DCGM prints "no value" as a huge number (int32: 0x7ffffff0, larger in 64 bits and floats).
DCGM_BLANK = float(0x7FFFFFF0)

VLLM = Table(
    copies=frozenset({"pid"}),  # several API server processes
    steady=True,
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
        # Both are counted when a request ends; those of late 2025 on count all tokens at each 40th step as well.
        ("generated_tokens", (Printed("sglang:generation_tokens_total"),)),
        ("prompt_tokens", (Printed("sglang:prompt_tokens_total"),)),
        ("steps", (Printed("sglang:realtime_tokens_total"),)),
        ("room_tokens", (Printed("sglang:max_total_num_tokens"),)),
    ),
)

TGI = Table(
    steady=True,
    signals=(
        ("running", (Printed("tgi_batch_current_size"),)),
        ("waiting", (Printed("tgi_queue_size"),)),
        # The batch's KV blocks in tokens, of those that there are; the second since 2.3.2 (October 2024).
        ("kv", (Portion(Printed("tgi_batch_current_max_tokens"), Printed("tgi_batch_max_total_tokens")),)),
        # Both are counted when a request ends or begins, so that the batches computed are the sign of life.
        ("generated_tokens", (Printed("tgi_request_generated_tokens_sum"),)),
        ("prompt_tokens", (Printed("tgi_request_input_length_sum"),)),
        ("steps", (Printed("tgi_batch_inference_count"),)),
        ("room_tokens", (Printed("tgi_batch_max_total_tokens"),)),
    ),
)


def _requests(kind: str) -> Printed:
    return Printed("nv_trt_llm_request_metrics", where=(("request_type", kind),))


def _blocks(kind: str) -> Printed:
    return Printed("nv_trt_llm_kv_cache_block_metrics", where=(("kv_cache_block_type", kind),))


#: Triton's names first, then those of TensorRT-LLM's own server (trtllm-serve).
TRITON = Table(
    steady=True,
    signals=(
        ("running", (_requests("scheduled"), Printed("trtllm_num_requests_running"))),
        # Before April 2025 without waiting requests and without the fraction in use.
        (
            "waiting",
            (
                _requests("waiting"),
                Rest(_requests("active"), _requests("scheduled")),
                Printed("trtllm_num_requests_waiting"),
            ),
        ),
        (
            "kv",
            (
                Printed("nv_trt_llm_kv_cache_block_metrics", "fullest", where=(("kv_cache_block_type", "fraction"),)),
                Portion(_blocks("used"), _blocks("max")),
                Printed("trtllm_kv_cache_utilization", "fullest"),
            ),
        ),
        ("latency", (MeanSince("trtllm_time_to_first_token_seconds"),)),
        # Counted when a request ends, hence the iterations as the sign of life; of trtllm-serve there is none.
        ("generated_tokens", (Printed("nv_llm_output_token_len_sum"),)),
        ("prompt_tokens", (Printed("nv_llm_input_token_len_sum"),)),
        ("steps", (Printed("nv_trt_llm_general_metrics", where=(("general_type", "iteration_counter"),)),)),
        (
            "room_tokens",
            (
                Product(_blocks("max"), _blocks("tokens_per")),
                Product(Printed("trtllm_kv_cache_max_blocks"), Printed("trtllm_kv_cache_tokens_per_block")),
            ),
        ),
        ("gpu", (Printed("nv_gpu_utilization", "fullest"),)),
        ("gpu_memory", (Portion(Printed("nv_gpu_memory_used_bytes"), Printed("nv_gpu_memory_total_bytes")),)),
    ),
)

LLAMACPP = Table(
    steady=True,
    signals=(
        ("running", (Printed("llamacpp:requests_processing"),)),
        ("waiting", (Printed("llamacpp:requests_deferred"),)),
        ("kv", (Printed("llamacpp:kv_cache_usage_ratio"),)),  # until May 2025
        # Counted when an answer ends, hence the calls of the model as the sign of life.
        ("generated_tokens", (Printed("llamacpp:tokens_predicted_total"),)),
        ("prompt_tokens", (Printed("llamacpp:prompt_tokens_total"),)),
        ("steps", (Printed("llamacpp:n_decode_total"),)),
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
ENGINES: Mapping[str, Table] = {"vllm": VLLM, "sglang": SGLANG, "tgi": TGI, "triton": TRITON, "llamacpp": LLAMACPP}
#: Prompt tokens that were found in a cache of prefixes and not read, where `prompt_tokens` counts them as well. Read by
#: the data plane alone, which reckons how fast a node reads.
CACHED: Mapping[str, tuple[Way, ...]] = {
    "vllm": (Printed("vllm:prefix_cache_hits_total"), Printed("vllm:gpu_prefix_cache_hits_total")),
    "sglang": (Printed("sglang:cached_tokens_total"),),
}
#: Requests that got a first token, and those that ended, whichever way: they tell how many were not read yet. Read by
#: the data plane alone.
PROGRESS: Mapping[str, tuple[tuple[str, tuple[Way, ...]], ...]] = {
    "vllm": (
        ("first_tokens", (Printed("vllm:time_to_first_token_seconds_count"),)),
        ("ended", (Printed("vllm:request_success_total"), Printed("vllm:e2e_request_latency_seconds_count"))),
    ),
    "sglang": (
        ("first_tokens", (Printed("sglang:time_to_first_token_seconds_count"),)),
        ("ended", (Printed("sglang:num_requests_total"), Printed("sglang:e2e_request_latency_seconds_count"))),
    ),
}
#: Exporters that may stand beside any engine.
MACHINE = (NODE_EXPORTER, DCGM)
