"""The physics of a simulated node: what must hold whatever is asked of it."""

from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_simulator.engine import Engine, EngineSpec, Event, Job
from weighbridge_simulator.workload import Sizes

SMALL = EngineSpec(sequences=4, kv_tokens=600, chunk=64, prefill_rate=1000.0)
# (pause before it, prompt, answer, n)
ASKS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(1, 300), st.integers(0, 60), st.integers(1, 3)), min_size=1, max_size=25
)
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.floats(0, 2), st.integers(1, 200), st.integers(0, 40), st.integers(1, 3)),
        st.tuples(st.just("cancel"), st.floats(0, 2), st.integers(0, 20)),
        st.tuples(st.just("speed"), st.floats(0, 2), st.sampled_from([0.5, 1.0, 3.0])),
        st.tuples(st.just("freeze"), st.floats(0, 2), st.booleans()),
    ),
    max_size=30,
)


def drain(engine: Engine) -> list[Event]:
    """Everything that still happens."""
    events: list[Event] = []
    while (due := engine.next_event()) < inf:
        events += engine.advance(due)
    return events


def serve(asks: list[tuple[float, int, int, int]], slow: float = 1.0, looks: int = 0) -> tuple[Engine, list[Job]]:
    """All asks served, looking at the engine `looks` times between any two."""
    engine, now, jobs = Engine(SMALL, slow=slow), 0.0, []
    for pause, prompt, answer, n in asks:
        for look in range(looks):
            engine.advance(now + pause * look / looks)
            engine.sample(now + pause * look / looks)
        now += pause
        engine.advance(now)
        jobs.append(Job(prompt, answer, n))
        engine.submit(jobs[-1], now)
    drain(engine)
    return engine, jobs


@given(ASKS)
@settings(max_examples=60)
def test_every_job_ends_in_order_and_no_token_is_lost(asks: list[tuple[float, int, int, int]]) -> None:
    engine, jobs = serve(asks)
    assert [job.place for job in jobs] == ["ended"] * len(jobs)
    firsts = [job.first for job in jobs]
    assert firsts == sorted(firsts)
    assert all(job.submitted <= job.first <= job.end for job in jobs)
    sample = engine.sample(max(job.end for job in jobs))
    assert sample.generated_tokens == pytest.approx(sum(job.answer * job.n for job in jobs))
    assert sample.prompt_tokens == sum(job.prompt for job in jobs)
    assert (sample.running, sample.waiting, sample.kv_used) == (0, 0, 0)


@given(ASKS, st.integers(1, 7))
@settings(max_examples=40)
def test_looking_changes_nothing(asks: list[tuple[float, int, int, int]], looks: int) -> None:
    _, seldom = serve(asks)
    _, often = serve(asks, looks=looks)
    assert [(job.first, job.end) for job in often] == [(job.first, job.end) for job in seldom]


@given(ASKS, st.floats(1, 10))
@settings(max_examples=40)
def test_a_slower_node_takes_longer_by_its_factor(asks: list[tuple[float, int, int, int]], slow: float) -> None:
    together = [(0.0, *ask[1:]) for ask in asks]
    _, quick = serve(together)
    _, late = serve(together, slow=slow)
    for fast, behind in zip(quick, late, strict=True):
        assert behind.first == pytest.approx(fast.first * slow)
        assert behind.end == pytest.approx(fast.end * slow)


@given(DEEDS)
@settings(max_examples=100)
def test_room_is_never_exceeded_and_cancelling_gives_all_of_it_back(deeds: list[tuple]) -> None:
    engine, now, jobs = Engine(SMALL), 0.0, []
    for kind, pause, *rest in deeds:
        now += pause
        for job, _, at in engine.advance(now):
            assert at <= now
            assert job.place != "cancelled" or at <= job.end
        match kind:
            case "submit":
                jobs.append(Job(*rest))
                engine.submit(jobs[-1], now)
            case "cancel" if jobs:
                job = jobs[rest[0] % len(jobs)]
                inside = job.place in ("waiting", "reading", "decoding")
                assert engine.cancel(job, now) == inside
            case "speed":
                engine.speed(rest[0], now)
            case "freeze":
                engine.freeze(rest[0], now)
        sample = engine.sample(now)
        assert 0 <= sample.kv_used <= SMALL.kv_tokens
        assert 0 <= sample.running <= SMALL.sequences
        assert sample.waiting >= 0
        inside = list(engine.jobs())
        assert sample.running + sample.waiting == sum(job.n for job in inside)
        assert sample.kv_used == sum(job.kv for job in inside if job.place != "waiting")
    for job in list(engine.jobs()):
        engine.cancel(job, now)
    sample = engine.sample(now)
    assert (sample.running, sample.waiting, sample.kv_used, engine.next_event()) == (0, 0, 0, inf)


def test_the_head_waits_for_room_and_nobody_overtakes() -> None:
    engine = Engine(SMALL)
    big, next_big, small = Job(300, 200), Job(300, 200), Job(10, 10)
    for job in (big, next_big, small):
        engine.submit(job, 0.0)
    assert engine.sample(0.0).running == 1
    drain(engine)
    assert next_big.first > big.end
    assert small.first > next_big.first


def test_cancelling_the_head_lets_the_next_in_at_once() -> None:
    engine = Engine(SMALL)
    running, head, behind = Job(300, 200), Job(300, 200), Job(10, 10)
    for job in (running, head, behind):
        engine.submit(job, 0.0)
    engine.cancel(head, 0.1)
    assert behind.place == "reading"


def test_sequences_share_their_prompt() -> None:
    engine = Engine(SMALL)
    job = Job(100, 20, n=3)
    engine.submit(job, 0.0)
    assert engine.sample(0.0).kv_used == 160
    assert engine.sample(0.0).running == 3
    drain(engine)
    assert engine.sample(job.end).generated_tokens == pytest.approx(60)


def test_every_sequence_counts_as_a_request_of_its_own() -> None:
    """As of vLLM, whose counters of first tokens and ends would not fit its gauges otherwise."""
    engine = Engine(SMALL)
    engine.submit(Job(100, 20, n=3), 0.0)
    given_up = Job(100, 20, n=2)
    engine.submit(given_up, 0.0)
    engine.cancel(given_up, 0.0)
    drain(engine)
    sample = engine.sample(100.0)
    assert (sample.ttft_count, sample.ended, sample.cancelled) == (3, 3, 2)


def test_a_frozen_node_makes_no_progress_and_then_goes_on() -> None:
    engine, free = Engine(SMALL), Engine(SMALL)
    job, reference = Job(100, 50), Job(100, 50)
    engine.submit(job, 0.0)
    free.submit(reference, 0.0)
    engine.advance(0.3)
    engine.freeze(True, 0.3)
    assert engine.next_event() == inf
    assert engine.advance(9.0) == []
    engine.freeze(False, 10.0)
    drain(free)
    drain(engine)
    assert job.end == pytest.approx(reference.end + 9.7)


def test_slowing_down_in_the_middle_stretches_only_the_rest() -> None:
    engine = Engine(SMALL)
    job = Job(64, 101)
    engine.submit(job, 0.0)
    step = SMALL.a + SMALL.b
    first = engine.next_event()
    engine.advance(first + 50 * step)
    engine.speed(5.0, first + 50 * step)
    drain(engine)
    assert job.end == pytest.approx(first + 50 * step + 50 * step * 5)


def test_tokens_can_be_followed_while_they_come() -> None:
    engine = Engine(SMALL)
    job = Job(64, 10)
    engine.submit(job, 0.0)
    (_, _, first), *_ = engine.advance(engine.next_event())
    step = SMALL.a + SMALL.b
    assert [engine.produced(job, first + step * k) for k in range(9)] == list(range(1, 10))


def test_a_job_that_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="KV tokens"):
        Engine(SMALL).submit(Job(600, 1), 0.0)


def test_shrinking_refuses_what_no_longer_fits_and_keeps_the_rest() -> None:
    engine = Engine(SMALL)
    running, huge, small = Job(300, 200), Job(300, 250), Job(10, 10)
    for job in (running, huge, small):
        engine.submit(job, 0.0)
    engine.resize(EngineSpec(sequences=4, kv_tokens=200, chunk=64, prefill_rate=1000.0), 0.1)
    assert [(job, kind) for job, kind, _ in engine.advance(0.1)] == [(huge, "refused")]
    drain(engine)
    assert (running.place, small.place) == ("ended", "ended")
    assert small.first > running.end


def saturated(size: float) -> float:
    """Requests a second of a node that never runs out of work."""
    engine, random, sizes = Engine(EngineSpec.unit(size)), Random(3), Sizes()
    for _ in range(4000):
        engine.submit(Job(*sizes.draw(random)), 0.0)
    ends = [at for _, kind, at in drain(engine) if kind == "end"]
    return 2500 / (ends[3000] - ends[500])


def test_the_unit_node_saturates_at_its_stated_rate() -> None:
    assert saturated(1.0) == pytest.approx(5.93, rel=0.05)


def test_a_node_of_four_units_serves_four_times_as_much() -> None:
    assert saturated(4.0) / saturated(1.0) == pytest.approx(4.0, rel=0.05)
