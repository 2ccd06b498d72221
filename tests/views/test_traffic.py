"""Envoys' pages as ours: renamed, split, and only what is wanted."""

from __future__ import annotations

from weighbridge_operator.views.traffic import FAMILIES, relay

PAGE = """# TYPE envoy_weighbridge_requests_total counter
envoy_weighbridge_requests_total{route="text stream m@2025-10",node="a/b-1",code="200"} 7
envoy_weighbridge_requests_total{route="text",node="",code="404"} 3
envoy_weighbridge_requests_total{route="",node="",code="401"} 2
# TYPE envoy_weighbridge_first_byte_time histogram
envoy_weighbridge_first_byte_time_bucket{route="text whole m",le="5"} 1
envoy_weighbridge_first_byte_time_sum{route="text whole m"} 4.5
envoy_weighbridge_first_byte_time_count{route="text whole m"} 1
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="p_m-1",le="5"} 2
envoy_cluster_upstream_rq_retry{envoy_cluster_name="p_m-1"} 4
envoy_cluster_upstream_rq_retry{envoy_cluster_name="xds"} 9
envoy_http_downstream_rq_active{envoy_http_conn_manager_prefix="entrance"} 5
envoy_filesystem_write_failed{} 6
envoy_cluster_upstream_cx_total{envoy_cluster_name="p_m-1"} 8
envoy_weighbridge_requests_total{route="broken} 1
nonsense
"""


def test_names_and_labels_are_ours() -> None:
    lines = [line for line in relay({"one": PAGE}).splitlines() if not line.startswith("#")]
    assert lines == [
        'weighbridge_requests_total{envoy="one",type="text",mode="stream",model="m@2025-10",node="a/b-1",code="200"} 7',
        'weighbridge_requests_total{envoy="one",type="text",code="404"} 3',
        'weighbridge_requests_total{envoy="one",code="401"} 2',
        'weighbridge_request_time_bucket{envoy="one",cluster="p_m-1",le="5"} 2',
        'weighbridge_first_byte_time_bucket{envoy="one",type="text",mode="whole",model="m",le="5"} 1',
        'weighbridge_first_byte_time_sum{envoy="one",type="text",mode="whole",model="m"} 4.5',
        'weighbridge_first_byte_time_count{envoy="one",type="text",mode="whole",model="m"} 1',
        'weighbridge_requests_active{envoy="one"} 5',
        'weighbridge_retries_total{envoy="one",cluster="p_m-1"} 4',
        'weighbridge_request_log_failures_total{envoy="one"} 6',
    ]


def test_each_family_has_its_head_once_however_many_envoys() -> None:
    page = relay({"two": PAGE, "one": PAGE})
    for family in FAMILIES:
        assert page.count(f"# HELP {family.name} ") == page.count(f"# TYPE {family.name} ") == 1
    assert page.index('weighbridge_retries_total{envoy="one"') < page.index('weighbridge_retries_total{envoy="two"')
    assert relay({}).count("\n") == 2 * len(FAMILIES)
