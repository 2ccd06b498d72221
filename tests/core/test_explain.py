"""What is said of a node whose numbers are there in part."""

from __future__ import annotations

from support.steady import A, B, Maker, Pools
from weighbridge_metrics.sample import LoadSample
from weighbridge_operator.core.load import LoadView, fold
from weighbridge_operator.core.weights import weigh
from weighbridge_operator.state import LoadRound


def test_what_is_missing_is_said_beside_what_is_there(make_endpoint: Maker, make_pool: Pools) -> None:
    pool = make_pool([make_endpoint(name, engine="tgi") for name in (A, B)], "llm")
    lacking = LoadSample(A, 10.0, memory=0.5, error="none of the metrics that tgi prints could be read")
    view = fold(LoadView(), LoadRound(10.0, {A: lacking, B: LoadSample(B, 10.0, waiting=0, running=0)}))
    _, verdict = weigh(pool, None, view, 10.0)
    assert "some are missing (none of the metrics that tgi prints could be read)" in verdict.facts[A].reason
    assert "missing" not in verdict.facts[B].reason
