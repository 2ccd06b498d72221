"""What an Envoy says of what it refuses: its reason is told on, its copy of the configuration is not."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from weighbridge_operator.xds.session import read_request

DUMP = 'goo.gle/debugproto  \nname: "entrance"\nvirtual_hosts { credentials { key: "sk-of-somebody" } }...(truncated)'


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Error adding/updating cluster(s) a: no such thing", "Error adding/updating cluster(s) a: no such thing"),
        (DUMP, "(its own log has the rest)"),
        (
            f"Proto constraint validation failed: {DUMP}",
            "Proto constraint validation failed (its own log has the rest)",
        ),
    ],
)
def test_a_reason_is_kept_and_a_dump_is_not(said: str, told: str) -> None:
    request = DiscoveryRequest()
    request.error_detail.message = said
    assert read_request(request).error == told
    assert read_request(DiscoveryRequest()).error is None
