"""Engines that tell of load by labels, rests and products: right numbers from every version, else None."""

from __future__ import annotations

from pathlib import Path

import pytest

from weighbridge_metrics.sample import LoadSample
from weighbridge_metrics.signals import extract

PAGES = Path(__file__).parent / "fixtures"
SIGNALS = ("running", "waiting", "kv", "generated_tokens", "prompt_tokens", "steps", "room_tokens", "gpu", "gpu_memory")


def sample(engine: str, text: str) -> LoadSample:
    return extract("lab/a", engine, [text], {}, 100.0)[0]


@pytest.mark.parametrize(
    ("engine", "name", "expected"),
    [
        (
            "tgi",
            "tgi-2.0",
            {"running": 12, "waiting": 7, "generated_tokens": 88403, "prompt_tokens": 301740, "steps": 402 + 30121},
        ),
        (
            "tgi",
            "tgi-3.3",
            {
                "running": 14,
                "waiting": 3,
                "kv": 0.25,
                "generated_tokens": 290145,
                "prompt_tokens": 1040960,
                "steps": 1204 + 96113,
                "room_tokens": 98304,
            },
        ),
        (
            "triton",
            "triton-trtllm-24.01",
            {"running": 9, "waiting": 4, "kv": 0.25, "steps": 51234, "room_tokens": 6240 * 64},
        ),
        (
            "triton",
            "triton-trtllm-2026",
            {
                "running": 32,
                "waiting": 6,
                "kv": 0.4875,
                "generated_tokens": 420000,
                "prompt_tokens": 1260000,
                "steps": 880123,
                "room_tokens": 6240 * 64,
                "gpu": 0.8,
                "gpu_memory": 0.9,
            },
        ),
        (
            "triton",
            "triton-trtllm-documented",
            {"running": 1, "waiting": 1, "kv": 0.4875, "steps": 0, "room_tokens": 6239 * 64},
        ),
        ("triton", "trtllm-serve-2026", {"running": 11, "waiting": 2, "kv": 0.625, "room_tokens": 5000 * 32}),
        (
            "llamacpp",
            "llamacpp-2024",
            {"running": 3, "waiting": 2, "kv": 0.28125, "generated_tokens": 3469, "prompt_tokens": 6886},
        ),
        (
            "llamacpp",
            "llamacpp-2026",
            {"running": 4, "waiting": 3, "generated_tokens": 40, "prompt_tokens": 89, "steps": 412},
        ),
    ],
)
def test_one_reading_of_every_page(engine: str, name: str, expected: dict[str, float]) -> None:
    read = sample(engine, (PAGES / f"{name}.prom").read_text())
    assert {name: getattr(read, name) for name in SIGNALS if getattr(read, name) is not None} == pytest.approx(expected)
    assert read.error is None


def trtllm_page(**kinds: float) -> str:
    return "".join(
        f'nv_trt_llm_request_metrics{{model="m",request_type="{kind}",version="1"}} {value}\n'
        for kind, value in kinds.items()
    )


def test_a_label_chooses_among_the_series_of_a_family() -> None:
    read = sample("triton", trtllm_page(active=9, max=512, scheduled=7, context=1, waiting=5))
    assert (read.running, read.waiting) == (7.0, 5.0)


def test_an_older_triton_s_queue_is_what_is_active_and_not_scheduled_and_never_negative() -> None:
    assert sample("triton", trtllm_page(active=9, scheduled=7)).waiting == 2.0
    assert sample("triton", trtllm_page(active=0, scheduled=1)).waiting == 0.0
    assert sample("triton", trtllm_page(active=9)).waiting is None


def test_the_rooms_of_several_models_are_each_blocks_times_their_own_size() -> None:
    text = "".join(
        f'nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="{kind}",model="{model}"}} {value}\n'
        for model, kind, value in (
            ("a", "max", 100),
            ("a", "tokens_per", 64),
            ("b", "max", 1000),
            ("b", "tokens_per", 8),
        )
    )
    assert sample("triton", text).room_tokens == 100 * 64 + 1000 * 8
    assert sample("triton", text.partition('{kv_cache_block_type="tokens_per",model="b"')[0]).room_tokens is None


def test_a_triton_without_tensorrt_llm_says_nothing_of_load_though_its_gpus_are_known() -> None:
    read = sample("triton", 'nv_gpu_utilization{gpu_uuid="a"} 0.5\n')
    assert read.gpu == 0.5
    assert read.error == "none of the metrics that triton prints could be read"


def test_a_server_whose_shares_are_of_nothing_has_none() -> None:
    assert sample("tgi", "tgi_batch_current_max_tokens 0\ntgi_batch_max_total_tokens 0\n").kv is None
