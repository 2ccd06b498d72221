"""F1, F3 and F5 to F7 on real processes under 200 requests a second: short forms of bench/faults.py and
bench/dataplane_faults.py, with their bounds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.envoy


def load(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    return load("faults")


@pytest.fixture(scope="module")
def dataplane_faults() -> ModuleType:
    return load("dataplane_faults")


async def test_a_killed_node_costs_no_request(faults: ModuleType) -> None:
    figure = await faults.killed_node(5.0)
    assert (figure.asked, figure.lost) == (1000, 0), figure


async def test_a_frozen_node_costs_few_and_only_until_its_checks_fail(faults: ModuleType) -> None:
    figure = await faults.frozen_node(5.0)
    # What lay on it when it froze: what came to a third of 200 a second while the slowest answer was made, which is
    # next to nothing but where this machine is busy. And the one in 6,561 whose eight choices of three all fall on it.
    assert figure.lost <= 5 + 200 / 3 * figure.told["slowest_s"], figure
    assert set(figure.told.get("how", {})) <= {"late"}, figure


async def test_a_killed_operator_costs_nothing_and_is_back_in_two_seconds(faults: ModuleType) -> None:
    figure = await faults.killed_operator(5.0)
    assert figure.lost == 0, figure
    assert figure.told["effect_s"] < 2.0, figure


async def test_a_stream_whose_node_dies_raises_and_never_looks_complete(faults: ModuleType) -> None:
    figure = await faults.dying_stream()
    assert figure.lost == 0, figure
    assert figure.told["raised"] == figure.asked
    assert figure.told["slowest_s"] < 2.0, figure


async def test_changes_cut_no_stream(faults: ModuleType) -> None:
    figure = await faults.changes(4.0)
    assert (figure.asked, figure.lost) == (50, 0), figure
    assert figure.told["outlived"], figure


async def test_a_node_that_answers_500_at_once_is_left_out_and_comes_back(faults: ModuleType) -> None:
    figure = await faults.fast_failing(500, 5.0)
    assert figure.lost < 100, figure
    assert figure.told["share_after_recovery"] > 0.15, figure


@pytest.mark.parametrize("fault", ["frozen", "slow", "stammering"])
async def test_a_data_plane_that_does_not_answer_in_time_is_soon_not_asked_any_more(
    dataplane_faults: ModuleType, fault: str
) -> None:
    figure = await getattr(dataplane_faults, fault)(7.0, beside=False)
    assert (figure.lost, figure.told["streams"], figure.told["streams_cut"]) == (0, 50, 0), figure
    assert 0 < figure.told["delayed"] < 600, figure
    assert figure.told["delayed_after_5s"] == 0, figure
