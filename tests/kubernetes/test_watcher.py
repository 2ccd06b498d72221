"""kopf's watch through what an API server does that starts, or was away: it alone has to tell of every change."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from support.apiproxy import refuse
from support.apiserver import ApiServer
from support.watched import Watched
from weighbridge_operator.sources.kube import source

GROUP, VERSION = "/apis", "/apis/weighbridge.dev/v1alpha1"


@pytest.fixture
async def watched(
    api_server: ApiServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Watched]:
    """A source that has no other means than the watch."""

    async def look(*_: object) -> None:
        """Lists find nothing."""

    monkeypatch.setattr(source.ClusterSource, "_find_unheard", look)
    async with Watched(api_server, namespace, tmp_path, monkeypatch) as made:
        await made.apply(made.node("a"))
        yield made


async def find_added(watched: Watched, name: str) -> float:
    """Seconds until the watch tells of a new node."""
    began = time.monotonic()
    await watched.apply(watched.node(name))
    await watched.until(lambda _: name in watched.names)
    return time.monotonic() - began


async def begin(watched: Watched) -> None:
    """Until both kinds are watched."""
    await watched.begin()
    await wait_watched(watched, 0)


async def wait_watched(watched: Watched, since: int) -> None:
    end = time.monotonic() + 30.0
    paths: set[str] = set()
    while len(paths) < 2:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
        paths = {path for _, path, query in watched.proxy.asked[since:] if "watch=" in query and "weighbridge" in path}


@pytest.mark.parametrize("status", [403, 404, 429, 503])
async def test_what_a_starting_api_server_refuses_is_asked_for_again_and_the_watch_goes_on(
    watched: Watched, status: int
) -> None:
    """Refused twice within a second kopf would end as a whole, which takes it five seconds, or for ever."""
    await begin(watched)
    already = len(watched.proxy.asked)
    watched.proxy.lie = lambda *_: web.Response(status=status, text="not yet")
    watched.proxy.cut()
    await asyncio.sleep(3.0)
    watched.proxy.lie = None
    assert await find_added(watched, "b") < 2.0
    asked = [path for _, path, query in watched.proxy.asked[already:] if "watch=" not in query]
    assert GROUP not in asked  # kopf was not started anew


@pytest.mark.parametrize("lacking", [GROUP, VERSION])
async def test_kinds_that_are_not_listed_yet_are_waited_for(watched: Watched, lacking: str) -> None:
    """An API server serves objects before it tells of their kinds, and kopf looks for those once."""
    other = {"name": "routepolicies", "singularName": "routepolicy", "kind": "RoutePolicy", "namespaced": True}
    untold = {"groups": [], "resources": [other | {"verbs": ["get", "list", "watch"]}]}

    def lie(_: str, path: str, __: str) -> web.Response | None:
        return web.Response(text=json.dumps(untold), content_type="application/json") if path == lacking else None

    watched.proxy.lie = lie
    await watched.begin()
    await asyncio.sleep(1.5)
    watched.proxy.lie = None
    await wait_watched(watched, 0)
    assert await find_added(watched, "b") < 2.0


async def test_kopf_ends_soon_and_begins_anew_though_another_watch_is_being_asked_for(watched: Watched) -> None:
    """One watch fails for good while the other is refused: kopf's own end would wait for that one for ever."""
    await begin(watched)
    failed = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "broken"}}

    def lie(_: str, path: str, query: str) -> web.Response | None:
        if "watch=" not in query:
            return None
        return web.Response(text=json.dumps(failed)) if path.endswith("modelnodes") else refuse()

    watched.proxy.lie = lie
    watched.proxy.cut()
    await asyncio.sleep(2.0)
    watched.proxy.lie = None
    assert await find_added(watched, "b") < 3.0


async def test_a_watch_that_went_deaf_while_the_api_server_was_away_is_begun_anew(watched: Watched) -> None:
    """Nothing says that its connection is dead, and kopf would listen to it for another 70 seconds."""
    await begin(watched)
    watched.proxy.deafen()
    watched.proxy.lie = refuse
    await asyncio.sleep(2.0)
    already = len(watched.proxy.asked)
    watched.proxy.lie = None
    await wait_watched(watched, already)
    assert await find_added(watched, "b") < 2.0
