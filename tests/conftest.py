"""Fixtures for every room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import settings

from support.apiserver import ApiServer
from support.assets import NoAssetsError, bring_assets
from support.envoy import RealEnvoy

# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew instead of comparing")


@pytest.fixture
async def start_envoy() -> AsyncIterator[Callable[..., Awaitable[RealEnvoy]]]:
    """Starts a real Envoy with a bootstrap; whatever was started is ended with the test."""
    async with AsyncExitStack() as running:

        async def start(bootstrap: dict[str, Any], *arguments: str, admin_port: int = 0) -> RealEnvoy:
            return await running.enter_async_context(RealEnvoy(bootstrap, *arguments, admin_port=admin_port))

        yield start


@pytest.fixture(scope="session")
def api_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """A real kube-apiserver with the CRDs, one for the run. Whoever kills it starts it again."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", end="", flush=True)

    try:
        assets = bring_assets(say)
    except NoAssetsError as error:
        pytest.skip(f"not run: {error}")
    with ApiServer(assets) as server:
        yield server


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """Of this test alone."""
    return api_server.create_namespace()
