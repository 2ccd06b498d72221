"""What a simulated node keeps of prompts: what is found again is not read again, and room holds as without it."""

from math import inf
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_simulator.engine import Engine, EngineSpec, Job
from weighbridge_simulator.service import BLOCK
from weighbridge_simulator.workload import Sizes

SMALL = EngineSpec(sequences=8, kv_tokens=1600, chunk=64, prefill_rate=1000.0)


def chain(name: int, tokens: int) -> tuple[int, ...]:
    """Blocks of a text that shares nothing with those of other names."""
    return tuple(name * 1_000_000 + number for number in range(tokens // BLOCK))


def ask(engine: Engine, job: Job, now: float) -> Job:
    """One job, alone, until it has ended."""
    engine.submit(job, now)
    while (due := engine.next_event()) < inf:
        engine.advance(due)
    return job


def test_a_turn_of_a_conversation_reads_only_what_is_new() -> None:
    engine, history = Engine(SMALL), chain(1, 800)
    first = ask(engine, Job(320, 32, blocks=history[: 352 // BLOCK]), 0.0)
    second = ask(engine, Job(400, 32, blocks=history[: 432 // BLOCK]), 100.0)
    assert (first.cached, second.cached) == (0, 352)  # the answer too was kept
    assert second.first - 100.0 < 0.2 * first.first
    sample = engine.sample(200.0)
    assert (sample.queried_tokens, sample.cached_tokens, sample.prompt_tokens) == (720, 352, 720)
    assert sample.kv == 0.0  # what nobody holds is free


def test_the_last_token_is_always_read_anew() -> None:
    engine, text = Engine(SMALL), chain(1, 320)
    ask(engine, Job(320, 1, blocks=text), 0.0)
    assert ask(engine, Job(320, 1, blocks=text), 100.0).cached == 304


def test_without_a_cache_all_is_read() -> None:
    engine, text = Engine(EngineSpec(prefix_caching=False)), chain(1, 320)
    waits = [ask(engine, Job(320, 1, blocks=text), at).first - at for at in (0.0, 100.0)]
    assert abs(waits[0] - waits[1]) < 1e-9
    sample = engine.sample(200.0)
    assert (sample.queried_tokens, sample.cached_tokens) == (0, 0)


def test_two_at_once_share_their_beginning_and_its_room() -> None:
    engine, text = Engine(SMALL), chain(1, 640)
    jobs = [Job(656, 300, blocks=(*text, number)) for number in (1, 2)]
    for job in jobs:
        engine.submit(job, 0.0)
    # Apart they need 1912 tokens of 1600: the second waits until the first has read what both begin with.
    assert jobs[1].place == "waiting"
    ask(engine, Job(16, 1), 1.5)
    assert [job.place for job in jobs] == ["ended", "ended"]
    assert jobs[1].cached == 640


def test_what_a_running_job_holds_is_counted_once() -> None:
    engine, text = Engine(SMALL), chain(1, 640)
    ask(engine, Job(640, 1, blocks=text), 0.0)
    for number in range(4):
        engine.submit(Job(656, 100, blocks=(*text, number)), 10.0)
    assert engine.sample(10.0).running == 4
    assert engine.sample(10.0).kv_used == 640 + 4 * 116


def test_under_pressure_what_was_not_used_for_longest_goes_first() -> None:
    engine = Engine(SMALL)
    for number, at in enumerate((0.0, 100.0, 200.0), start=1):
        ask(engine, Job(480, 16, blocks=chain(number, 480)), at)
    ask(engine, Job(480, 16, blocks=chain(1, 480)), 300.0)  # used again: now the second is the oldest
    ask(engine, Job(640, 160, blocks=chain(4, 640)), 400.0)
    found = [ask(engine, Job(480, 1, blocks=chain(number, 480)), 500.0 + 100 * number).cached for number in (1, 2, 3)]
    assert found[0] == 464
    assert found[1] == 0


def test_what_is_kept_never_keeps_anybody_waiting() -> None:
    engine = Engine(SMALL)
    for number in range(3):
        ask(engine, Job(480, 16, blocks=chain(number + 1, 480)), 100.0 * number)
    job = Job(1500, 100, blocks=chain(9, 1600))
    engine.submit(job, 400.0)
    assert job.place == "reading"


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 3), st.integers(1, 400), st.integers(0, 80), st.booleans()),
        max_size=40,
    )
)
@settings(max_examples=100)
def test_room_holds_whatever_is_shared(asks: list[tuple[float, int, int, int, bool]]) -> None:
    engine, now, jobs = Engine(SMALL), 0.0, []
    for pause, name, prompt, answer, cancels in asks:
        now += pause
        engine.advance(now)
        jobs.append(Job(prompt, answer, blocks=chain(name, prompt + answer)))
        engine.submit(jobs[-1], now)
        if cancels:
            engine.cancel(jobs[len(jobs) // 2], now)
        room = engine._room
        inside = [job for job in engine.jobs() if job.place != "waiting"]
        held = {block for job in inside for block in job.blocks[: job.held]}
        assert room.used == sum(job.kv - BLOCK * job.held for job in inside) + BLOCK * len(held)
        assert set(room._held) == held
        assert not held & set(room._idle)
        assert room.used + room.idle <= SMALL.kv_tokens
    while (due := engine.next_event()) < inf:
        engine.advance(due)
    assert engine.sample(now + 1e4).kv_used == 0
    assert {job.place for job in jobs} <= {"ended", "cancelled"}


def test_prompts_that_share_nothing_are_served_as_without_a_cache() -> None:
    waits = []
    for caching in (True, False):
        random, now, jobs = Random(4), 0.0, []
        engine = Engine(EngineSpec(prefix_caching=caching))
        for number in range(2000):
            now += random.expovariate(5.9)
            prompt, answer = Sizes().draw(random)
            jobs.append(Job(prompt, answer, blocks=chain(number, prompt + answer)))
            engine.submit(jobs[-1], now)
        while (due := engine.next_event()) < inf:
            engine.advance(due)
        waits.append([(job.first, job.end) for job in jobs])
    assert waits[0] == waits[1]
