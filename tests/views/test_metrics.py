"""The metrics page: as promtool and Prometheus' own parser want it, and absent where nothing is known."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import reports
from weighbridge_operator.report import PrometheusReport, Report, WriterReport
from weighbridge_operator.views import metrics


def parse(report: Report | None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.expose(report, "1.2.3"))
        for sample in family.samples
    }


def node(name: str, **more: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"namespace": "default", "node": name, "pool": reports.POOL, **more}.items()))


@pytest.mark.parametrize("make", [reports.healthy, reports.troubled, reports.many, reports.foreign, lambda: None])
def test_promtool_has_nothing_to_say(make: object) -> None:
    tool = shutil.which("promtool")
    if tool is None and "CI" not in os.environ:
        pytest.skip("promtool is not here: Debian's package prometheus has it, and CI installs that")
    assert tool
    page = metrics.expose(make(), "1.2.3")  # type: ignore[operator]
    done = subprocess.run([tool, "check", "metrics"], input=page.encode(), capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_values_are_the_reports() -> None:
    samples = parse(reports.healthy())
    assert samples["weighbridge_node_score", node("qwen-large")] == 34.4
    assert samples["weighbridge_node_weight", node("qwen-large")] == 16
    assert samples["weighbridge_node_load_age_seconds", node("qwen-large")] == 0.8
    assert samples["weighbridge_pool_pushes_total", (("pool", reports.POOL),)] == 3
    ready = (("kind", "RoutePolicy"), ("name", "chat"), ("namespace", "default"))
    assert samples["weighbridge_object_ready", ready] == 1
    assert samples["weighbridge_build_info", (("version", "1.2.3"),)] == 1


def test_what_is_not_known_is_absent() -> None:
    samples = parse(reports.troubled())
    silent = {name for name, labels in samples if labels == node("qwen-silent")}
    assert silent == {"weighbridge_node_weight"}
    assert samples["weighbridge_node_healthy", node("qwen-large")] == 0
    assert set(parse(None)) == {("weighbridge_build_info", (("version", "1.2.3"),))}


def test_a_rejection_can_be_alerted_on() -> None:
    samples = parse(reports.troubled())
    refused = {labels: v for (name, labels), v in samples.items() if name == "weighbridge_envoy_rejections"}
    assert refused[(("envoy", "envoy-2"), ("kind", "LDS"))] == 1
    assert sum(refused.values()) == 1
    assert samples["weighbridge_envoy_current", (("envoy", "envoy-2"),)] == 0


def test_who_writes_statuses_is_told_in_a_cluster_alone() -> None:
    report = reports.healthy()
    assert not any(name.startswith("weighbridge_status_") for name, _ in parse(report))
    samples = parse(replace(report, writer=WriterReport(True, "one", 7, 2, 3)))
    assert samples["weighbridge_status_leader", ()] == 1
    assert samples["weighbridge_status_writes_total", ()] == 7
    assert samples["weighbridge_status_failures_total", ()] == 2
    assert samples["weighbridge_status_waiting", ()] == 3


def test_each_prometheus_is_told_with_what_it_gave() -> None:
    servers = (
        PrometheusReport("p:9090", 40, 2, 3.5, -0.25, None),
        PrometheusReport("q:9090", 4, 4, None, None, "cannot be connected to"),
    )
    page = metrics.expose(replace(reports.healthy(), prometheus=servers), "1")
    assert 'weighbridge_prometheus_up{server="p:9090"} 1\n' in page
    assert 'weighbridge_prometheus_up{server="q:9090"} 0\n' in page
    assert 'weighbridge_prometheus_queries_total{server="p:9090"} 40\n' in page
    assert 'weighbridge_prometheus_failures_total{server="q:9090"} 4\n' in page
    assert 'weighbridge_prometheus_age_seconds{server="p:9090"} 3.5\n' in page
    assert 'weighbridge_prometheus_clock_skew_seconds{server="p:9090"} -0.25\n' in page
    assert 'age_seconds{server="q:9090"}' not in page


def test_labels_are_escaped_and_no_series_comes_twice() -> None:
    name = 'a "quoted" \\ name\nwith lines'
    endpoint = reports.make_endpoint(pool=name)
    report = reports.make_report((reports.make_node("a", endpoint, endpoint),))
    page = metrics.expose(report, "1.2.3")
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    assert len(lines) == len({line.rsplit(" ", 1)[0] for line in lines})
    assert ("weighbridge_pool_pushes_total", (("pool", name),)) in parse(report)


def test_numbers_that_are_none_are_left_out() -> None:
    report = reports.make_report((reports.make_node("a", reports.make_endpoint(score=float("nan"), kv=float("inf"))),))
    assert "nan" not in metrics.expose(report, "1").lower()
    assert "inf\n" not in metrics.expose(report, "1").lower()


def test_cardinality_has_a_bound_and_says_what_it_left_out() -> None:
    few = reports.many(3)
    nodes = [o for o in few.objects if o.kind == "ModelNode"]
    crowd = tuple(replace(nodes[0], name=f"n{i}") for i in range(metrics.MOST + 7))
    samples = parse(replace(few, objects=crowd))
    assert sum(name == "weighbridge_node_score" for name, _ in samples) == metrics.MOST
    assert samples["weighbridge_nodes_omitted", ()] == 7
