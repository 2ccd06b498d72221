"""A llama-server that nobody here wrote, and a model that these tests make."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.llamaserver import NoServerError, bring_server
from support.tinymodel import write_model


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells a line at once: progress, or a figure."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", end="", flush=True)

    return tell


@pytest.fixture(scope="session")
def llama_server(say: Callable[[str], None]) -> Path:
    """The program; built where it is not there."""
    try:
        return bring_server(say, int(os.environ.get("JOBS", os.cpu_count() or 1)))
    except NoServerError as error:
        pytest.exit(f"the tests on a real inference server cannot run here: {error}", 1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
