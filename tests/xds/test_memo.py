"""A memo spares work and changes nothing; what the last translation did not need is forgotten."""

from __future__ import annotations

from weighbridge_operator.xds.memo import Memo


def test_what_was_made_is_made_once_as_long_as_it_is_asked_for() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name.upper()

    memo = Memo()
    for asked in (("a", "b", "a"), ("a",), ("a", "b")):
        assert [memo.recall("letter " + name, name, lambda name=name: make(name)) for name in asked] == [
            name.upper() for name in asked
        ]
        memo.turn()
    assert made == ["a", "b", "b"]


def test_what_is_made_of_something_else_is_made_anew_under_its_old_name() -> None:
    memo = Memo()
    told = []
    for given in ((1,), (1,), (2,), (1,)):
        told.append(memo.recall("number", given, lambda given=given: list(given)))
        memo.turn()
    assert told == [[1], [1], [2], [1]]
    assert told[0] is told[1]
