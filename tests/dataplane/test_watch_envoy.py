"""An Envoy that gives no page is told of, once, and once when it is back: a wrong address would pass unseen."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from support.envoy import free_port
from support.simulated import until
from weighbridge_dataplane import watch
from weighbridge_dataplane.chooser import Chooser
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.records import Records
from weighbridge_dataplane.watch import Watch


async def answer_nothing(_: web.Request) -> web.Response:
    return web.json_response({"entries": {}})


async def test_silence_is_told_once_and_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ENVOY_SILENT", 0.2)
    monkeypatch.setattr(watch, "RUNTIME_PERIOD", 0.05)
    caplog.set_level(logging.WARNING, "dataplane")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    records = Records()
    running = asyncio.create_task(Watch(url, Pools(lambda _: Chooser(lambda: 0.0)), records).run())
    try:
        await until(lambda: len(caplog.records) == 1)
        failed = records.pages["failed"]
        await until(lambda: records.pages["failed"] >= failed + 5)
        (line,) = (record.message for record in caplog.records)
        assert line.startswith(f"{url} gives no page of Envoy's, so that the weights decide: is it ")
        app = web.Application()
        app.router.add_get("/runtime", answer_nothing)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            await until(lambda: len(caplog.records) == 2)
        finally:
            await runner.cleanup()
        assert caplog.records[1].message == f"{url} answers again"
    finally:
        running.cancel()
