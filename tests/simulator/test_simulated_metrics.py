"""What a simulated node says of itself: well-formed text, true numbers, and lies on demand."""

import math
import re

import pytest

from weighbridge_metrics.signals import extract
from weighbridge_simulator.control import Control
from weighbridge_simulator.engine import Job
from weighbridge_simulator.machine import use_cpu
from weighbridge_simulator.node import Node, NodeSpec

Samples = dict[str, dict[str, float]]
_SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')


def read(page: str) -> Samples:
    """Family -> labels -> value, by the rules of the text format: each family once, its HELP and TYPE before it."""
    samples: Samples = {}
    typed: dict[str, str] = {}
    assert page.endswith("\n")
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed
            typed[name] = kind
        elif not line.startswith("# HELP "):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            family = re.sub(r"_(bucket|sum|count)$", "", name) if name not in typed else name
            assert list(typed)[-1] == family, line
            assert labels not in samples.setdefault(name, {})
            samples[name][labels or ""] = float(value)
    return samples


def one(samples: Samples, name: str) -> float:
    (value,) = samples[name].values()
    return value


def busy(engine: str = "vllm", **options: object) -> Node:
    """A node with one long request running, one waiting, at second 1."""
    node = Node(NodeSpec(engine=engine, models=(('m"x', "m"),), **options), 0.0)
    for prompt in (20_000, 30_000):
        node.submit(Job(prompt, 8_000), 0.0)
    node.advance(10.0)
    return node


def test_vllm_names_carry_the_engine_s_numbers() -> None:
    node = busy()
    samples = read(node.page(10.0))
    truth = node.engine.sample(10.0)
    assert one(samples, "vllm:num_requests_running") == truth.running == 1
    assert one(samples, "vllm:num_requests_waiting") == truth.waiting == 1
    assert one(samples, "vllm:kv_cache_usage_perc") == pytest.approx(0.7)
    assert one(samples, "vllm:prompt_tokens_total") == 20_000
    assert one(samples, "vllm:generation_tokens_total") == truth.whole_tokens > 100
    (labels,) = samples["vllm:cache_config_info"]
    assert 'kv_cache_size_tokens="40000"' in labels
    assert 'num_gpu_blocks="2500"' in labels
    assert 'block_size="16"' in labels


def test_sglang_names_carry_the_engine_s_numbers() -> None:
    samples = read(busy("sglang").page(10.0))
    assert one(samples, "sglang:num_running_reqs") == one(samples, "sglang:num_queue_reqs") == 1
    assert one(samples, "sglang:token_usage") == pytest.approx(0.7)
    assert one(samples, "sglang:max_total_num_tokens") == 40_000
    assert one(samples, "sglang:gen_throughput") > 10


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi", "triton", "llamacpp"])
def test_what_an_engine_prints_is_read_by_the_gateway_s_own_tables(engine: str) -> None:
    node = busy(engine)
    load, _ = extract("lab/a", engine, [node.page(10.0)], {}, 10.0)
    assert (load.running, load.waiting, load.error) == (1.0, 1.0, None)
    assert load.kv == (None if engine == "llamacpp" else pytest.approx(0.7))
    assert load.room_tokens == (None if engine == "llamacpp" else 40_000)
    assert load.prompt_tokens == (0 if engine in ("sglang", "triton") else 20_000)


@pytest.mark.parametrize("engine", ["sglang", "tgi", "triton", "llamacpp"])
def test_engines_that_count_an_answer_s_tokens_at_its_end_give_signs_of_life_before(engine: str) -> None:
    node = busy(engine)
    loads = [extract("lab/a", engine, [node.page(at)], {}, at)[0] for at in (10.0, 12.0)]
    assert [load.generated_tokens for load in loads] == [0.0, 0.0]
    assert loads[1].steps > loads[0].steps > 0
    node.advance(3000.0)
    ended = extract("lab/a", engine, [node.page(3000.0)], {}, 3000.0)[0]
    assert (ended.generated_tokens, ended.prompt_tokens) == (16_000, 50_000)


def test_a_plain_server_prints_no_engine() -> None:
    samples = read(busy("plain").page(10.0))
    assert list(samples) == ["process_open_fds", "sim_cancelled_total"]


def test_the_histogram_counts_every_first_token_once() -> None:
    node = Node(NodeSpec(), 0.0)
    for _ in range(5):
        node.submit(Job(1000, 10), 0.0)
    node.advance(20.0)
    samples = read(node.page(20.0))
    buckets = list(samples["vllm:time_to_first_token_seconds_bucket"].values())
    assert buckets == sorted(buckets)
    assert buckets[-1] == one(samples, "vllm:time_to_first_token_seconds_count") == 5
    truth = node.engine.sample(20.0)
    assert one(samples, "vllm:time_to_first_token_seconds_sum") == pytest.approx(truth.ttft_sum, abs=1e-5)


def test_cpu_and_memory_follow_the_engine_and_add_up() -> None:
    idle, full = Node(NodeSpec(machine=True), 0.0), busy(machine=True)
    assert cpu_use(idle, 10.0, 20.0) == pytest.approx(use_cpu(0, 0)) == pytest.approx(0.05)
    assert cpu_use(full, 10.0, 20.0) == pytest.approx(use_cpu(1, 1 / full.engine.spec.sequences))
    assert use_cpu(1, 1) == pytest.approx(0.8)
    samples = read(full.page(20.0))
    seconds = dict.fromkeys(("idle", "iowait", "system", "user"), 0.0)
    for labels, value in samples["node_cpu_seconds_total"].items():
        seconds[labels.split('mode="')[1].rstrip('"')] += value
    cores = len(samples["node_cpu_seconds_total"]) / 4
    assert sum(seconds.values()) == pytest.approx(20.0 * cores, rel=1e-3)
    assert one(samples, "node_memory_MemAvailable_bytes") < one(read(idle.page(20.0)), "node_memory_MemAvailable_bytes")


def test_a_gpu_is_busy_while_anything_runs() -> None:
    node = busy()
    samples = read(node.gpu_page(10.0))
    assert one(samples, "DCGM_FI_DEV_GPU_UTIL") == 100
    assert one(samples, "DCGM_FI_DEV_FB_USED") / one(samples, "DCGM_FI_DEV_FB_FREE") == pytest.approx(9, rel=0.01)
    assert one(read(Node(NodeSpec(), 0.0).gpu_page(10.0)), "DCGM_FI_DEV_GPU_UTIL") == 0


def cpu_use(node: Node, start: float, end: float) -> float:
    """CPU use between two looks, as somebody with the page alone computes it."""

    def seconds(at: float) -> tuple[float, float]:
        family = read(node.machine_page(at))["node_cpu_seconds_total"]
        return sum(family.values()), sum(value for labels, value in family.items() if 'mode="idle"' in labels)

    (total, idle), (later, idle_later) = seconds(start), seconds(end)
    return 1.0 - (idle_later - idle) / (later - total)


def test_overrides_replace_what_the_engine_says() -> None:
    node = busy()
    node.change({"cpu": 0.9, "memory": 0.65, "gpu": 0.5, "gpu_memory": 0.25, "queue": 20}, 10.0)
    assert cpu_use(node, 10.0, 20.0) == pytest.approx(0.9, abs=1e-3)
    machine, gpu = read(node.machine_page(20.0)), read(node.gpu_page(20.0))
    used = 1 - one(machine, "node_memory_MemAvailable_bytes") / one(machine, "node_memory_MemTotal_bytes")
    assert used == pytest.approx(0.65)
    assert one(gpu, "DCGM_FI_DEV_GPU_UTIL") == 50
    assert one(gpu, "DCGM_FI_DEV_FB_USED") == 20_480
    assert one(read(node.page(20.0)), "vllm:num_requests_waiting") == 20


@pytest.mark.parametrize(
    ("lie", "running", "kv", "tokens_rise"),
    [("idle", 0, 0.0, False), ("frozen", 1, 0.7, False), ("half", 0, 0.35, True), ("nan", math.nan, math.nan, True)],
)
def test_a_lying_node_says_what_it_was_told_to(lie: str, running: float, kv: float, tokens_rise: bool) -> None:
    node = busy()
    node.change({"lie": lie}, 10.0)
    before, after = read(node.page(10.0)), read(node.page(12.0))
    assert one(after, "vllm:num_requests_running") == pytest.approx(running, nan_ok=True)
    assert one(after, "vllm:kv_cache_usage_perc") == pytest.approx(kv, nan_ok=True)
    rise = one(after, "vllm:generation_tokens_total") - one(before, "vllm:generation_tokens_total")
    assert (rise > 0) == tokens_rise
    node.change({"lie": "off"}, 12.0)
    assert one(read(node.page(12.0)), "vllm:num_requests_running") == 1


def test_absent_metrics_are_absent_and_not_zero() -> None:
    node = busy()
    node.change({"lie": "absent"}, 10.0)
    assert not [name for name in read(node.page(10.0)) if name.startswith("vllm")]


def test_a_node_can_start_as_a_liar() -> None:
    node = Node(NodeSpec(control=Control(lie="frozen")), 0.0)
    start = node.page(0.0)
    node.submit(Job(100, 100), 0.0)
    node.advance(1.0)
    assert node.page(1.0) == start
