"""Fixtures for every room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.envoy import RealEnvoy


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew instead of comparing")


@pytest.fixture
async def start_envoy() -> AsyncIterator[Callable[..., Awaitable[RealEnvoy]]]:
    """Starts a real Envoy with a bootstrap; whatever was started is ended with the test."""
    async with AsyncExitStack() as running:

        async def start(bootstrap: dict[str, Any], *arguments: str, admin_port: int = 0) -> RealEnvoy:
            return await running.enter_async_context(RealEnvoy(bootstrap, *arguments, admin_port=admin_port))

        yield start
