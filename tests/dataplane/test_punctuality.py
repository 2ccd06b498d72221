"""When a data plane says of itself that it had better not be asked: on stalls that come again and again, no other."""

from __future__ import annotations

from weighbridge_dataplane.punctuality import BEAT, REST, Punctuality


def beat(punctuality: Punctuality, since: float, seconds: float, stop: float = 0.0, run: float = 1e9) -> float:
    """Beats of a process that stands still for `stop` after each `run` seconds; the time at their end."""
    now, awake = since, since
    while now < since + seconds:
        due = now + BEAT
        if due - awake > run:
            now = max(due, awake + run + stop)
            awake = now
        else:
            now = due
        punctuality.feel(now - due, now)
    return now


def test_a_process_that_gets_its_turn_is_asked() -> None:
    punctuality = Punctuality()
    now = beat(punctuality, 0.0, 10.0, stop=0.015, run=0.1)
    assert punctuality.is_kept(now)


def test_one_long_stall_says_nothing_and_neither_do_rare_ones() -> None:
    punctuality = Punctuality()
    punctuality.feel(30.0, 30.0)
    assert punctuality.is_kept(30.0)
    now = beat(punctuality, 40.0, 20.0, stop=0.06, run=0.5)
    assert punctuality.is_kept(now)


def test_one_that_stands_still_again_and_again_is_not_and_is_asked_again_when_that_is_over() -> None:
    punctuality = Punctuality()
    now = beat(punctuality, 0.0, 2.0, stop=0.05, run=0.01)
    assert not punctuality.is_kept(now)
    now = beat(punctuality, now, 20.0, stop=0.05, run=0.01)
    assert not punctuality.is_kept(now)
    now = beat(punctuality, now, REST - 1)
    assert not punctuality.is_kept(now)
    now = beat(punctuality, now, 3.0)
    assert punctuality.is_kept(now)
