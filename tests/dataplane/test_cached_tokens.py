"""How fast a node reads is told by what it had to read: what it found in its cache of prefixes does not count."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from weighbridge_dataplane.readings import find_table, read_sample
from weighbridge_simulator.engine import Job
from weighbridge_simulator.node import Node, NodeSpec

FIXTURES = Path(__file__).parents[1] / "sources" / "fixtures"


def read(engine: str, page: str) -> float | None:
    table = find_table(engine)
    assert table is not None
    sample = read_sample(table, [page.encode()], {}, 1.0)
    assert sample is not None
    return sample.prompt_tokens


@pytest.mark.parametrize(("caching", "told"), [(True, 1616), (False, 3200)])
def test_a_prompt_that_was_read_before_counts_for_what_is_new(caching: bool, told: int) -> None:
    node = Node(NodeSpec(compute=(("prefix_caching", caching),)), 0.0)
    for at in (0.0, 50.0):
        node.submit(Job(1600, 1, blocks=tuple(range(100))), at)
        while (due := node.engine.next_event()) < inf:
            node.advance(due)
    assert "vllm:prompt_tokens_total{engine=" in node.page(100.0)
    assert read("vllm", node.page(100.0)) == told


def test_sglang_s_own_page_is_read_alike() -> None:
    page = (FIXTURES / "sglang-2026-dp2-tp2.prom").read_text()
    with_cache = read("sglang", page)
    without = read("sglang", "\n".join(line for line in page.splitlines() if "cached_tokens" not in line) + "\n")
    assert with_cache is not None
    assert without is not None
    assert without - with_cache == 4000


def test_an_engine_that_tells_nothing_of_a_cache_counts_whole() -> None:
    page = (FIXTURES / "vllm-0.10.prom").read_text()
    assert "prefix_cache" not in page
    assert read("vllm", page)


@pytest.mark.parametrize(
    "absurd", [("prompt_tokens_total",), ("prefix_cache_hits",), ("prompt_tokens_total", "prefix_cache_hits")]
)
def test_of_numbers_that_no_engine_counts_to_no_difference_is_taken(absurd: tuple[str, ...]) -> None:
    node = Node(NodeSpec(compute=(("prefix_caching", True),)), 0.0)
    lines = node.page(0.0).splitlines()
    names = tuple(f"vllm:{name}" for name in absurd)
    assert all(any(line.startswith(name) for line in lines) for name in names)
    spoilt = [f"{line.rsplit(' ', 1)[0]} 1.8e19" if line.startswith(names) else line for line in lines]
    assert read("vllm", "\n".join(spoilt) + "\n") is None, "0 again and again is a node that reads nothing"
