"""Notices tell of each Envoy at which less than the whole data plane decides."""

import pytest

from weighbridge_operator.envoy_reports import tell_dataplanes
from weighbridge_operator.sources.envoys import EnvoyRound, EnvoyState

WEIGHTS = "there the weights decide, whatever balance.precise says"


def _round(**planes: tuple[int, int]) -> EnvoyRound:
    states = {
        name: EnvoyState(0.0, {}, {}, {}, 0, live=True, dataplanes=there, answering=answering)
        for name, (there, answering) in planes.items()
    }
    return EnvoyRound(states, {})


@pytest.mark.parametrize(
    ("there", "answering", "told"),
    [
        (0, 0, f"Envoy a has no data plane beside it: {WEIGHTS}"),
        (1, 0, f"Envoy a's data plane does not answer: {WEIGHTS}"),
        (3, 0, f"none of Envoy a's 3 data planes answers: {WEIGHTS}"),
        (3, 1, "2 of Envoy a's 3 data planes do not answer: the rest decide alone"),
        (2, 1, "1 of Envoy a's 2 data planes does not answer: the rest decide alone"),
        (2, 2, None),
    ],
)
def test_what_is_told_of_an_envoy(there: int, answering: int, told: str | None) -> None:
    assert tell_dataplanes(_round(a=(there, answering), b=(1, 1))) == (() if told is None else (told,))


def test_many_are_told_shortly() -> None:
    told = tell_dataplanes(_round(**{f"e{n}": (1, 0) for n in range(8)}))
    assert [line.split("'")[0] for line in told[:5]] == [f"Envoy e{n}" for n in range(5)]
    assert told[5:] == ("the like of 3 more Envoys",)
