"""What becomes of the engines' pages: right numbers from every version, and None, never 0, where there is no number."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_metrics.engines import DCGM_BLANK, ENGINES, MACHINE
from weighbridge_metrics.exposition import TOTAL_MAXIMUM, read
from weighbridge_metrics.sample import LoadSample
from weighbridge_metrics.signals import WINDOW_MAXIMUM, Counters, extract
from weighbridge_metrics.ways import families

PAGES = Path(__file__).parent / "fixtures"
SIGNALS = [f.name for f in fields(LoadSample) if f.name not in {"node", "at", "source", "error", "origins", "lasts"}]


def page(name: str) -> str:
    return (PAGES / f"{name}.prom").read_text()


def sample(engine: str, *texts: str, previous: Counters | None = None, at: float = 100.0) -> LoadSample:
    return extract("lab/a", engine, texts, previous or {}, at)[0]


def numbers(of: LoadSample) -> dict[str, float]:
    """The signals that are there."""
    return {name: getattr(of, name) for name in SIGNALS if getattr(of, name) is not None}


@pytest.mark.parametrize(
    ("engine", "name", "expected"),
    [
        (
            "vllm",
            "vllm-0.8",
            {
                "running": 12.0,
                "waiting": 3.0,
                "kv": 0.4375,
                "generated_tokens": 1557572.0,
                "prompt_tokens": 8128902.0,
                "room_tokens": 27648.0 * 16,
            },
        ),
        (
            "vllm",
            "vllm-0.10",
            {"running": 5.0, "waiting": 0.0, "kv": 0.3125, "generated_tokens": 20480.0, "prompt_tokens": 40960.0},
        ),
        (
            "vllm",
            "vllm-2026-dp2",
            {
                "running": 15.0,
                "waiting": 3.0,
                "kv": 0.375,
                "generated_tokens": 100000.0,
                "prompt_tokens": 500000.0,
                "room_tokens": 440000.0 + 439984.0,
            },
        ),
        (
            "sglang",
            "sglang-0.4",
            {
                "running": 162.0,
                "waiting": 2826.0,
                "kv": 0.28,
                "generated_tokens": 7557572.0,
                "prompt_tokens": 8128902.0,
            },
        ),
        (
            "sglang",
            "sglang-2026-dp2-tp2",
            {
                "running": 10.0,
                "waiting": 3.0,
                "kv": 0.4,
                "generated_tokens": 500.0,
                "prompt_tokens": 10000.0,
                "room_tokens": 2 * 471258.0,
            },
        ),
        ("openai", "node_exporter-1.12", {"memory": 0.25}),
        ("openai", "node_exporter-1.12-later", {"memory": 0.75}),
        ("openai", "dcgm-exporter-4.5", {"gpu": 0.65, "gpu_memory": 0.8}),
        ("openai", "vllm-0.8", {}),
    ],
)
def test_one_reading_of_every_page(engine: str, name: str, expected: dict[str, float]) -> None:
    read = sample(engine, page(name))
    assert numbers(read) == pytest.approx(expected)
    assert (read.node, read.at, read.error) == ("lab/a", 100.0, None)


def test_several_endpoints_make_one_sample() -> None:
    read = sample("vllm", page("vllm-0.8"), page("node_exporter-1.12"), page("dcgm-exporter-4.5"))
    assert numbers(read).keys() == set(SIGNALS) - {"cpu", "latency", "steps"}


def test_a_family_that_two_endpoints_print_counts_once() -> None:
    assert sample("vllm", page("vllm-0.8"), page("vllm-0.8")).running == 12.0


def test_processor_use_is_what_was_not_idle_since_the_last_reading() -> None:
    _, counters = extract("lab/a", "openai", [page("node_exporter-1.12")], {}, 100.0)
    later = sample("openai", page("node_exporter-1.12-later"), previous=counters, at=102.0)
    # 5.0 s idle and 0.2 s waiting for a disk, of 8.0 s on four CPUs.
    assert later.cpu == pytest.approx(1 - 5.2 / 8.0)


def vllm_page(sum_: float, count: float, *, engine: str = "0") -> str:
    labels = f'{{engine="{engine}",model_name="m"}}'
    return (
        f"vllm:time_to_first_token_seconds_sum{labels} {sum_}\nvllm:time_to_first_token_seconds_count{labels} {count}\n"
    )


def test_latency_is_the_mean_of_the_first_tokens_since_the_last_reading() -> None:
    first, counters = extract("lab/a", "vllm", [vllm_page(90.0, 600)], {}, 100.0)
    second, counters = extract("lab/a", "vllm", [vllm_page(100.0, 620)], counters, 102.0)
    third, counters = extract("lab/a", "vllm", [vllm_page(100.0, 620)], counters, 104.0)
    assert (first.latency, second.latency, third.latency) == (None, 0.5, None)


def test_a_counter_that_fell_begins_the_window_anew() -> None:
    _, counters = extract("lab/a", "vllm", [vllm_page(90.0, 600)], {}, 100.0)
    restarted, counters = extract("lab/a", "vllm", [vllm_page(1.0, 10)], counters, 102.0)
    after, _ = extract("lab/a", "vllm", [vllm_page(3.0, 20)], counters, 104.0)
    assert (restarted.latency, after.latency) == (None, 0.2)


def test_a_new_series_begins_the_window_anew() -> None:
    _, counters = extract("lab/a", "vllm", [vllm_page(90.0, 600)], {}, 100.0)
    joined = vllm_page(91.0, 602) + vllm_page(5000.0, 900, engine="1")
    assert sample("vllm", joined, previous=counters, at=102.0).latency is None


def test_a_missed_reading_widens_the_window_and_a_long_silence_ends_it() -> None:
    _, counters = extract("lab/a", "vllm", [vllm_page(90.0, 600)], {}, 100.0)
    _, counters = extract("lab/a", "vllm", [], counters, 102.0)
    assert sample("vllm", vllm_page(95.0, 610), previous=counters, at=104.0).latency == 0.5
    assert sample("vllm", vllm_page(95.0, 610), previous=counters, at=101.0 + WINDOW_MAXIMUM).latency is None


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_page_without_the_engines_metrics_is_an_error_and_no_zeros(engine: str) -> None:
    read = sample(engine, page("node_exporter-1.12"))
    assert numbers(read) == pytest.approx({"memory": 0.25})
    assert read.error == f"none of the metrics that {engine} prints could be read"


def test_an_engine_that_falls_silent_is_noticed_although_it_once_had_counters() -> None:
    _, counters = extract("lab/a", "vllm", [vllm_page(90.0, 600)], {}, 100.0)
    assert sample("vllm", "", previous=counters, at=102.0).error is not None


@pytest.mark.parametrize("broken", ["NaN", "-1", "+Inf", "-Inf", "nonsense"])
@pytest.mark.parametrize(
    ("engine", "family", "signal"),
    [
        ("vllm", "vllm:num_requests_waiting", "waiting"),
        ("vllm", "vllm:kv_cache_usage_perc", "kv"),
        ("vllm", "vllm:generation_tokens_total", "generated_tokens"),
        ("sglang", "sglang:token_usage", "kv"),
        ("sglang", "sglang:max_total_num_tokens", "room_tokens"),
        ("tgi", "tgi_queue_size", "waiting"),
        ("llamacpp", "llamacpp:requests_deferred", "waiting"),
        ("openai", "DCGM_FI_DEV_GPU_UTIL", "gpu"),
    ],
)
def test_what_is_no_number_is_none(engine: str, family: str, signal: str, broken: str) -> None:
    assert getattr(sample(engine, f"{family} {broken}\n"), signal) is None


def test_half_a_sum_is_no_sum() -> None:
    text = 'vllm:num_requests_running{engine="0"} 9\nvllm:num_requests_running{engine="1"} NaN\n'
    assert sample("vllm", text).running is None


def test_a_nan_among_copies_is_not_hidden_by_its_twin() -> None:
    text = 'sglang:num_running_reqs{tp_rank="0"} 9\nsglang:num_running_reqs{tp_rank="1"} NaN\n'
    assert sample("sglang", text).running is None


def test_an_unusable_new_name_leaves_the_word_to_the_old_one() -> None:
    assert sample("vllm", "vllm:kv_cache_usage_perc NaN\nvllm:gpu_cache_usage_perc 0.5\n").kv == 0.5


@pytest.mark.parametrize(("printed", "kv"), [("1.0", 1.0), ("1.01", 1.0), ("37.5", None)])
def test_a_share_above_one_is_rounding_or_no_share(printed: str, kv: float | None) -> None:
    assert sample("vllm", f"vllm:kv_cache_usage_perc {printed}\n").kv == kv


def test_models_of_one_page_are_added_up_and_the_fullest_speaks_for_kv() -> None:
    text = "".join(
        f'vllm:num_requests_running{{engine="0",model_name="{model}"}} {running}\n'
        f'vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} {kv}\n'
        for model, running, kv in (("a", 3, 0.9), ("b", 4, 0.1))
    )
    read = sample("vllm", text)
    assert (read.running, read.kv) == (7.0, 0.9)


@pytest.mark.parametrize(
    ("labels", "room"),
    [
        ('kv_cache_size_tokens="48000",num_gpu_blocks="9",block_size="16"', 48000.0),
        ('kv_cache_size_tokens="None",num_gpu_blocks="3000",block_size="16"', 48000.0),
        ('num_gpu_blocks="3000",block_size="16"', 48000.0),
        ('num_gpu_blocks="None",block_size="16"', None),
        ('block_size="16"', None),
        ('kv_cache_size_tokens="nan"', None),
        ('kv_cache_size_tokens="-5"', None),
    ],
)
def test_room_is_read_from_labels(labels: str, room: float | None) -> None:
    assert sample("vllm", f"vllm:cache_config_info{{{labels}}} 1.0\n").room_tokens == room


def test_processes_of_one_vllm_server_count_once() -> None:
    text = "".join(f'vllm:num_requests_running{{engine="0",pid="{pid}"}} 4\n' for pid in (11, 12, 13))
    assert sample("vllm", text).running == 4.0


def test_a_gpu_that_reports_nothing_leaves_the_word_to_the_others() -> None:
    text = (
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="0"}} {DCGM_BLANK}\nDCGM_FI_DEV_GPU_UTIL{{gpu="1"}} 50\n'
        'DCGM_FI_DEV_FB_USED{gpu="0"} 9223372036854775794\nDCGM_FI_DEV_FB_FREE{gpu="0"} 9223372036854775794\n'
    )
    read = sample("openai", text)
    assert (read.gpu, read.gpu_memory) == (0.5, None)


def test_a_memory_total_of_zero_is_no_share() -> None:
    assert sample("openai", "node_memory_MemTotal_bytes 0\nnode_memory_MemAvailable_bytes 0\n").memory is None


FAMILIES = sorted(families((*ENGINES.values(), *MACHINE)))


@settings(max_examples=150)
@given(st.data(), st.sampled_from([*sorted(ENGINES), "openai"]))
def test_whatever_is_printed_every_signal_is_sane_or_none(data: st.DataObject, engine: str) -> None:
    counters: Counters = {}
    for at in (1.0, 3.0, 5.0):
        lines = data.draw(
            st.lists(
                st.tuples(st.sampled_from(FAMILIES), st.floats() | st.floats(0, 2), st.sampled_from("01")), max_size=20
            )
        )
        text = "".join(f'{name}{{engine="{rank}",mode="idle"}} {value!r}\n' for name, value, rank in lines)
        read, counters = extract("lab/a", engine, [text], counters, at)
        for name, value in numbers(read).items():
            assert 0 <= value < float("inf"), name
            assert value <= 1 or name not in {"kv", "cpu", "memory", "gpu", "gpu_memory"}, name


def test_a_page_of_more_load_than_a_server_has_counts_for_nothing() -> None:
    honest = "".join(
        f'node_cpu_seconds_total{{cpu="{cpu}",mode="m{mode}"}} 1\n' for cpu in range(1024) for mode in range(8)
    )
    assert read(honest, frozenset({"node_cpu_seconds_total"}), TOTAL_MAXIMUM).broken == 0
    lie = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n" * 20_000
    told = sample("vllm", lie)
    assert (numbers(told), told.error) == ({}, "none of the metrics that vllm prints could be read")
