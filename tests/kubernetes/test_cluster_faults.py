"""F1, F2 and F8 in a cluster under 200 requests a second: short forms of bench/cluster_faults.py, with their bounds.

Every operator is a process, every Envoy the real one, so are the API server and the Prometheus. In the bounds there is
room for a busy machine; the promises are measured by the benchmark.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.apiserver import ApiServer
from support.prometheus import needs_prometheus

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "cluster_faults.py"
    spec = importlib.util.spec_from_file_location("cluster_faults", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cluster_faults"] = module
    spec.loader.exec_module(module)
    return module


async def test_with_both_operators_killed_nothing_is_lost_and_weights_hold(
    faults: ModuleType, api_server: ApiServer
) -> None:
    figure = await faults.killed_operators(api_server, 2.0)
    assert (figure.lost, figure.told["weights_held"], figure.told["weights_after"]) == (0, True, True), figure
    assert figure.told["effect_s"] < 4.0, figure


async def test_with_the_api_server_away_weights_follow_load_and_nothing_is_lost(
    faults: ModuleType, api_server: ApiServer
) -> None:
    figure = await faults.killed_api_server(api_server, 8.0)
    assert figure.lost == 0, figure
    assert figure.told["flooded_node_lighter_s"] < 30.0, figure
    assert figure.told["effect_s"] < 4.0, figure


@needs_prometheus
async def test_with_prometheus_away_room_is_held_the_rest_fades_and_the_objects_say_so(
    faults: ModuleType, api_server: ApiServer
) -> None:
    figure = await faults.killed_prometheus(api_server, 0.0)
    assert (figure.lost, figure.told["said"], figure.told["room_held"]) == (0, "Stale", True), figure
    assert figure.told["said_s"] < 40.0, figure


async def test_the_envoy_of_a_killed_operator_goes_to_the_other(faults: ModuleType, api_server: ApiServer) -> None:
    figure = await faults.killed_replica(api_server, 1.0)
    assert (figure.lost, figure.told["envoys_before"]) == (0, [1, 1]), figure
    assert max(figure.told["reconnected_s"]) < 3.0, figure


async def test_an_invalid_node_is_told_of_itself_and_disturbs_no_other(
    faults: ModuleType, api_server: ApiServer
) -> None:
    figure = await faults.invalid_object(api_server, 0.0, nodes=60)
    assert (figure.lost, figure.told["others_written"]) == (0, 0), figure
    assert (figure.told["no_such_host"], figure.told["no_such_secret"]) == ("AddressNotFound", "SecretNotFound"), figure
    assert max(figure.told["no_such_host_s"], figure.told["no_such_secret_s"]) < 5.0, figure


async def test_operators_that_start_without_an_answer_or_with_an_empty_one_delete_nothing(
    faults: ModuleType, api_server: ApiServer
) -> None:
    figure = await faults.restarted_operators(api_server, 2.0)
    assert (figure.lost, figure.told["fewest_nodes"]) == (0, 3), figure
