"""An Envoy that refuses routes prints what of them breaks its rules: callers' keys are no part of what can.

It prints the message of which a rule is broken, whole. Keys stand in the outermost, the RouteConfiguration; what
objects say stands in the routes, which are packed each for itself. That the outermost keeps the rules is for
tests/xds/test_route_rules.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.message import Message

from support.scene import wait_for
from support.stack import Stack, node, secret
from weighbridge_operator.xds import route, translate
from weighbridge_operator.xds.kinds import LABELS, ROUTE

pytestmark = pytest.mark.envoy
KEY = "sk-of-somebody-8Hq2Zt"
REFUSED = "RouteConfiguration rejected"


def break_rule(made: dict[str, Any]) -> None:
    made["request_headers_to_add"] = [{"header": {"key": "", "value": "x"}}]


def break_expression(made: dict[str, Any]) -> None:
    made["match"] = {"safe_regex": {"regex": "("}}


def break_reference(made: dict[str, Any]) -> None:
    made["typed_per_filter_config"] = {"nobody": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig"}}


async def refused(stack: Stack) -> str:
    """All that Envoy has printed, once it has refused the routes of another model."""

    async def is_refused() -> bool:
        return REFUSED in stack.envoys[0].log

    stack.write(node("a", 9, "other"), secret("callers", alice=KEY))
    await wait_for(is_refused)
    await asyncio.sleep(0.2)  # a message of many lines is not written at once
    return stack.envoys[0].log


@pytest.mark.parametrize("spoil", [break_rule, break_expression, break_reference])
async def test_a_route_that_is_refused_takes_no_key_into_the_log(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name_route = route.name_route

    def name_badly(*given: Any) -> dict[str, Any]:
        made = name_route(*given)
        spoil(made)
        return made

    async with Stack(node("a", 9), secret("callers", alice=KEY), keys="callers") as stack:
        monkeypatch.setattr(route, "name_route", name_badly)
        assert KEY not in await refused(stack)

        async def is_told() -> bool:
            (envoy,) = stack.reporter.build().envoys
            return any(kind.error for kind in envoy.kinds if kind.kind == LABELS[ROUTE])

        await wait_for(is_told)
        assert KEY not in str(stack.reporter.build())


async def test_a_configuration_that_breaks_a_rule_itself_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the outermost message must keep the rules. Where this fails, Envoy has learned to keep keys to itself."""
    translate_routes = translate.translate_routes

    def translate_badly(*given: Any, **named: Any) -> tuple[Message, Any]:
        made, needs = translate_routes(*given, **named)
        made.virtual_hosts[0].name = ""  # type: ignore[attr-defined]
        return made, needs

    async with Stack(node("a", 9), secret("callers", alice=KEY), keys="callers") as stack:
        monkeypatch.setattr(translate, "translate_routes", translate_badly)
        assert KEY in await refused(stack)
        assert KEY not in str(stack.reporter.build())
