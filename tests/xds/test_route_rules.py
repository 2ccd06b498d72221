"""The message that holds callers' keys keeps Envoy's rules, whatever the objects say: broken, it would be printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.api_key_auth.v3.api_key_auth_pb2 import ApiKeyAuthPerRoute
from hypothesis import given
from hypothesis import strategies as st

from support.rules import find_broken
from weighbridge_operator.core.doors import Doors, read_callers
from weighbridge_operator.core.resolve import resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.files import settle
from weighbridge_operator.sources.listing import FileText
from weighbridge_operator.xds.keys import FILTER, let_in
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.translate import translate

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*/in.yaml"))


def make_routes(text: bytes, entrance: Entrance) -> RouteConfiguration:
    desired = settle([FileText("in.yaml", text, private=True)], {}).desired
    gateway = resolve(desired, Scope()).gateway
    doors = Doors(callers=(("alice", "sk-alice"), ("bob", "sk-bob")))
    (resource,) = translate(gateway, {}, desired.secrets, entrance, b"salt", doors).routes.values()
    routes = RouteConfiguration()
    routes.ParseFromString(resource.body)
    return routes


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("case", [None, *GOLDEN], ids=lambda case: case.parent.name if case else "nothing")
def test_the_routes_keep_the_rules(case: Path | None, tls: bool) -> None:
    routes = make_routes(case.read_bytes() if case else b"", Entrance(tls=tls, keys=True))
    assert FILTER in routes.virtual_hosts[0].typed_per_filter_config
    assert list(find_broken(routes)) == []


def test_a_broken_rule_is_found() -> None:
    routes = make_routes(GOLDEN[0].read_bytes(), Entrance(keys=True))
    routes.virtual_hosts[0].name = ""
    routes.virtual_hosts[0].matcher.matcher_tree.prefix_match_map.map.clear()
    routes.internal_only_headers.append("a\nb")
    assert len(list(find_broken(routes))) == 3


@given(st.dictionaries(st.text("ab.-_", min_size=1, max_size=4), st.binary(max_size=12), max_size=8))
def test_so_do_the_keys_whatever_a_secret_holds(entries: dict[str, bytes]) -> None:
    callers, _ = read_callers(entries)
    settings = ApiKeyAuthPerRoute()
    assert let_in(callers).Unpack(settings)
    assert list(find_broken(settings)) == []
    told = [credential.key for credential in settings.credentials]
    assert len(set(told)) == len(told)  # of two alike Envoy prints the key
