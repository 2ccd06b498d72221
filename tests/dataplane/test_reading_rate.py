"""How fast a node reads, as learned of pages a quarter of a second apart."""

from __future__ import annotations

from random import Random

import pytest

from weighbridge_dataplane.facts import Sample
from weighbridge_dataplane.rates import Rates, rates_of_reading
from weighbridge_dataplane.unread import Unread
from weighbridge_simulator.engine import Engine, EngineSpec, Job
from weighbridge_simulator.workload import Sizes, draw_arrivals

PERIOD = 0.25


def learn(spec: EngineSpec, load: float, sizes: Sizes) -> Rates:
    """A node's rates after five minutes of requests, `load` a second."""
    engine, rates, unread = Engine(spec), Rates(), Unread()
    arrivals = draw_arrivals(load, 300.0, sizes, Random(3))
    looked = 0.0
    for arrival in arrivals:
        while looked + PERIOD <= arrival.at:
            looked += PERIOD
            engine.advance(looked)
            sample = read(engine, looked)
            rates.learn(sample, unread.learn(sample))
        engine.advance(arrival.at)
        engine.submit(Job(arrival.prompt, arrival.answer), arrival.at)
    return rates


def read(engine: Engine, now: float) -> Sample:
    seen = engine.sample(now)
    read = float(seen.prompt_tokens - seen.cached_tokens)
    return Sample(
        now,
        seen.kv,
        seen.waiting,
        seen.running,
        read,
        seen.generated_tokens,
        seen.cached_tokens,
        seen.ttft_count,
        seen.ended + seen.cancelled,
    )


@pytest.mark.parametrize(("load", "size"), [(1.0, 0.5), (2.5, 0.5), (5.0, 1.0)])
def test_short_prompts_tell_it_as_well_as_long_ones(load: float, size: float) -> None:
    """Most are read between two pages, and what is left are those that take long: to count these alone is to be many
    times too low, and unread prompts then outweigh a full cache."""
    spec = EngineSpec.unit(size)
    learned = learn(spec, load, Sizes()).reading
    assert learned is not None
    assert 0.45 * spec.prefill_rate <= learned <= spec.prefill_rate


@pytest.mark.parametrize("size", [1.0, 4.0])
def test_short_prompts_after_a_silence_do_not_make_a_node_seem_slow(size: float) -> None:
    """It was asked for little, and is not seen to read that: at this rate prompts would seem unread for a second."""
    spec = EngineSpec.unit(size)
    engine, rates, unread = Engine(spec), Rates(), Unread()
    learned = []
    for step in range(1, 24):
        now = step * PERIOD
        if now > 2.0:
            for place in range(3):
                engine.advance(now + 0.08 * place)
                engine.submit(Job(190, 4), now + 0.08 * place)
            sample = read(engine, now + 0.2)
        else:
            sample = read(engine, now)
        rates.learn(sample, unread.learn(sample))
        learned.append(rates.reading)
    assert rates.spent < 1.0
    assert min(each or 0.0 for each in learned[-8:]) > 0.4 * spec.prefill_rate


def test_what_is_found_in_a_cache_counts_as_nothing_read() -> None:
    """It is taken off when a prompt begins to be read, and the whole prompt added when it was."""
    rates, read, cached = Rates(), 0.0, 0.0
    for second in range(41):
        rates.learn(Sample(second, 0.1, 0, 1, read, cached_tokens=cached), 1.0)
        found = 900 if second % 2 else 0
        read, cached = read + (-found or 1000), cached + found
    assert rates.reading == pytest.approx(50, rel=0.3)


def test_a_node_that_seemed_to_read_slowly_and_is_not_asked_any_more_is_taken_for_usual_again() -> None:
    """By chance its first page came in the middle of a long prompt."""
    others = [Rates() for _ in range(3)]
    slow, quiet = Rates(), Sample(1.0, 0.1, 0, 1, 10.0)
    slow.learn(Sample(0.0, 0.1, 0, 1, 0.0), 0.0)
    slow.learn(quiet, 1.0)
    for rates in others:
        rates.learn(Sample(0.0, 0.1, 0, 1, 0.0), 0.0)
        rates.learn(Sample(20.0, 0.1, 0, 1, 80_000.0), 1.0)
    assert slow.reading == 10
    pool = rates_of_reading([slow, *others])
    assert pool[1:] == pytest.approx([4000, 4000, 4000])
    assert pool[0] == pytest.approx(4000 * 2 / 3, rel=0.01)
    slow.learn(Sample(121.0, 0.1, 0, 1, 10.0), 0.0)
    again = rates_of_reading([slow, *others])[0]
    assert again == pytest.approx(4000, rel=0.1)


def test_a_node_that_had_hardly_anything_to_read_is_taken_for_usual() -> None:
    """At best it read two tokens a second, because it was asked for no more; it could read as fast as the others."""
    idle, busy = Rates(), Rates()
    for second in range(11):
        idle.learn(Sample(second, 0.0, 0, 0, 2.0 * second), 0.0)
        busy.learn(Sample(second, 0.1, 0, 1, 800.0 * second), 0.2)
    assert rates_of_reading([idle, busy]) == pytest.approx([4000, 4000], rel=0.1)


def test_without_a_word_of_reading_nobody_has_a_rate() -> None:
    assert rates_of_reading([Rates(), Rates()]) == [None, None]
