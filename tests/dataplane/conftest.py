"""Fixtures for the data plane's tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def channels_end() -> Iterator[None]:
    """gRPC's channels end here: a process that is forked later (`weighbridge compare`) would wait for their thread."""
    yield
    gc.collect()
