"""What is counted of requests, as exposition text that a stranger's parser reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from weighbridge_dataplane.choices import Kept
from weighbridge_dataplane.exchange import Head, Policy
from weighbridge_dataplane.facts import Asked, Choice, Member
from weighbridge_dataplane.records import CLUSTERS_MAXIMUM, Levels, Records

HEAD = Head(Policy(("p",)), Asked(12, "a customer", ("0123abcd",)), "id")
ROW = ("10.0.0.1:80", 0.5, 0.4, 0.1, 7.0, False)


def named(cluster: str = "p", request_id: str = "id") -> Kept:
    head = Head(HEAD.policy, HEAD.asked, request_id)
    return Kept(1_000.5, head, Choice(Member("10.0.0.1:80", cluster, "default/a", "vllm"), None, (ROW,), known="own"))


def parse(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (sample.name.removeprefix("weighbridge_dataplane_"), frozenset(sample.labels.items())): sample.value
        for sample in samples
    }


def test_named_and_silent_are_counted() -> None:
    records = Records()
    records.note(named(), 0.0002)
    records.note(Kept(1.0, HEAD, Choice(None, "few")), 0.2)
    records.note(Kept(1.0, Head(None, Asked(), ""), Choice(None, None), "policy"), 0.001)
    found = parse(records.print_metrics(Levels(3, 2, 0.5, None, 0.25), 1.5))
    assert found["named_total", frozenset({("cluster", "p")})] == 1
    assert found["silent_total", frozenset({("reason", "few")})] == 1
    assert found["silent_total", frozenset({("reason", "policy")})] == 1
    assert found["silent_total", frozenset({("reason", "stale")})] == 0
    assert [found["beginnings_total", frozenset({("known", known)})] for known in ("all", "own", "home")] == [0, 1, 0]
    assert found["request_seconds_bucket", frozenset({("le", "0.0001")})] == 0
    assert found["request_seconds_bucket", frozenset({("le", "0.001")})] == 2
    assert found["request_seconds_bucket", frozenset({("le", "+Inf")})] == 3
    assert found["nodes", frozenset()] == 3
    assert ("counts_age_seconds", frozenset()) not in found
    assert found["process_cpu_seconds_total", frozenset()] == 1.5


def test_clusters_are_bounded() -> None:
    records = Records()
    for number in range(CLUSTERS_MAXIMUM + 50):
        records.note(named(f'c"{number}\n'), 0.001)
    found = parse(records.print_metrics(Levels(), 0.0))
    assert found["named_total", frozenset({("cluster", "other")})] == 50
    assert sum(name == "named_total" for name, _ in found) == CLUSTERS_MAXIMUM + 1
