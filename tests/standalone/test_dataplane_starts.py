"""The data plane as a child: what it says is said on, and a start that fails is tried again."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from weighbridge_operator import dataplane_process
from weighbridge_operator.dataplane_process import DataplaneProcess
from weighbridge_operator.latest import Latest


class Beside:
    """An Envoy that is ready for ever."""

    admin_port = 9

    def __init__(self) -> None:
        self.ready = Latest[bool]()
        self.ready.set(True)

    async def wait_ready(self) -> None:
        return


async def wanted() -> None:
    return


async def until_said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in caplog.text:  # noqa: ASYNC110  logs tell nobody
            await asyncio.sleep(0.02)


async def test_what_it_says_while_it_lives_is_in_our_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its administration interface is nobody's, which it says after 3 s."""
    beside = DataplaneProcess(dataplane_process.choose_socket(), Beside(), wanted)  # type: ignore[arg-type]
    running = asyncio.create_task(beside.run())
    with caplog.at_level(logging.WARNING):
        await until_said(caplog, "gives no page of Envoy's")
    assert beside.pid is not None, "it lives on"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_start_that_the_machine_refuses_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def refuse(*_: object, **__: Any) -> None:
        nonlocal tried
        tried += 1
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    beside = DataplaneProcess("@nobody", Beside(), wanted)  # type: ignore[arg-type]
    running = asyncio.create_task(beside.run())
    with caplog.at_level(logging.ERROR):
        await until_said(caplog, "could not be started (Resource temporarily unavailable)")
        async with asyncio.timeout(20):
            while tried < 2:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.02)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
