"""The Lease's protocol: one holder at a time, whatever clocks and answers do."""

from __future__ import annotations

from typing import Any

from weighbridge_operator.status_writer.election import DURATION, PERIOD, STEP_DOWN, Election, Record


class Store:
    """The API server's part: one Lease, replaced only by who names its version."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def read(self) -> Record | None:
        return Record.read(self.lease) if self.lease else None

    def write(self, lease: dict[str, Any]) -> Record | None:
        held = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if lease["metadata"].get("resourceVersion") != held:
            return None
        self.version += 1
        self.lease = lease | {"metadata": lease["metadata"] | {"resourceVersion": str(self.version)}}
        return Record.read(self.lease)


def step(one: Election, store: Store, now: float) -> bool:
    """A look and what follows; whether it holds the Lease then."""
    one.observe(store.read(), now)
    lease = one.propose(now, f"t{now:g}")
    if lease is not None:
        won = store.write(lease)
        if won is None:
            one.lose()
        else:
            one.win(won, now)
    return one.leads(now)


def elect(name: str) -> Election:
    return Election("weighbridge", "gateway", name)


def test_the_first_one_holds_it_and_renews() -> None:
    store, one, two = Store(), elect("one"), elect("two")
    for tick in range(20):
        assert step(one, store, tick * PERIOD)
        assert not step(two, store, tick * PERIOD + 1)
    record = store.read()
    assert record is not None
    assert (record.holder, record.acquired, record.renewed, record.transitions) == ("one", "t0", "t38", 0)


def test_a_silent_holder_is_followed_after_its_time_by_the_others_clock() -> None:
    store, one, two = Store(), elect("one"), elect("two")
    assert step(one, store, 0.0)
    # Another clock, hours away.
    assert not step(two, store, 10_000.0)
    assert not step(two, store, 10_000.0 + DURATION - 0.1)
    assert step(two, store, 10_000.0 + DURATION)
    record = store.read()
    assert record is not None
    assert record.transitions == 1


def test_the_holder_stops_before_another_may_begin() -> None:
    assert STEP_DOWN < DURATION
    store, one = Store(), elect("one")
    assert step(one, store, 0.0)
    assert one.leads(STEP_DOWN - 0.1)
    assert not one.leads(STEP_DOWN)


def test_of_two_who_try_at_once_one_wins() -> None:
    store, one, two = Store(), elect("one"), elect("two")
    for each in (one, two):
        each.observe(store.read(), 0.0)
    leases = [each.propose(0.0, "t") for each in (one, two)]
    won = [store.write(lease) for lease in leases if lease is not None]
    assert [record is not None for record in won] == [True, False]


def test_a_holder_that_resigns_is_followed_at_once() -> None:
    store, one, two = Store(), elect("one"), elect("two")
    step(one, store, 0.0)
    step(two, store, 1.0)
    lease = one.resign("t")
    assert lease is not None
    store.write(lease)
    assert not one.leads(1.0)
    assert step(two, store, 1.1)
    assert one.resign("t") is not None  # it has not looked since; the version that it names is old
    assert two.leads(1.2)


def test_who_lost_looks_again_before_it_writes() -> None:
    store, one, two = Store(), elect("one"), elect("two")
    step(one, store, 0.0)
    step(two, store, 0.0)
    step(two, store, DURATION)
    stale = one.propose(DURATION, "t")
    assert stale is not None
    assert store.write(stale) is None
    one.lose()
    assert not step(one, store, DURATION + 0.1)
