"""What counts as a change, and that nothing else does."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from support import reports
from weighbridge_operator.latest import Latest
from weighbridge_operator.report import ConditionReport, Report
from weighbridge_operator.views.changes import compare, tell
from weighbridge_operator.views.plain import PlainView


def test_the_first_report_tells_all_weights_and_conditions() -> None:
    lines = tell(compare(None, reports.healthy()))
    assert sum(": weight " in line for line in lines) == 3
    assert any("RoutePolicy default/chat: condition Ready=True" in line for line in lines)


def test_the_start_of_an_envoy_is_no_news_and_where_it_listens_is_told_once() -> None:
    ready = reports.make_report((reports.make_node("a", reports.make_endpoint()),))
    objects = tuple(
        replace(
            found,
            conditions=(
                ConditionReport("Programmed", "Unknown", "NoEnvoy", "no Envoy is connected"),
                ConditionReport("Ready", "False", "NoEnvoy", "no Envoy is connected"),
            ),
        )
        for found in ready.objects
    )
    starting = replace(ready, objects=objects, envoys=(), uptime=0.5)
    first = tell(compare(None, starting))
    assert not any("NoEnvoy" in line or "listening" in line for line in first)
    ready = replace(ready, models=2)
    lines = tell(compare(starting, ready))
    assert "ModelNode default/a: condition Ready=True" in lines
    assert [line for line in lines if "listening" in line] == ["listening on http://127.0.0.1:8080: 1 node, 2 models"]
    assert not any("listening" in line for line in tell(compare(ready, replace(ready, uptime=99.0))))
    # One that had served and went is news.
    assert any("Ready=True -> Ready=False (NoEnvoy)" in line for line in tell(compare(ready, starting)))
    late = tell(compare(replace(starting, uptime=9.5), replace(starting, uptime=10.1)))
    assert late == (
        "not listening after 10 s: no Envoy has taken the listener; `weighbridge status` says what is known",
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("; its last valid form is still served", "its last valid form is still served"),
        ("; it is not served until it is valid", "it is not served until it is valid"),
        (" (and 1 more); its last valid form is still served", "(and 1 more); its last valid form is still served"),
    ],
)
def test_why_an_object_is_not_ready_is_said_once_and_always_what_serves(more: str, told: str) -> None:
    ready = reports.make_report((reports.make_node("a", reports.make_endpoint()),))
    (found,) = (each for each in ready.objects if each.kind == "ModelNode")
    text = "a.yaml:17:3: ModelNode a: spec.capacty: is not a known field; did you mean capacity?"

    def broken(*problems: str) -> Report:
        invalid = ConditionReport("Accepted", "False", "Invalid", text + more)
        conditions = (invalid, replace(invalid, type="Ready"))
        return replace(ready, objects=(replace(found, conditions=conditions),), problems=problems)

    turn = "ModelNode default/a: condition Accepted=True -> Accepted=False (Invalid): "
    for problems, said in (((), text + more), ((text,), told)):
        lines = tell(compare(ready, broken(*problems)))
        assert sum("spec.capacty" in line for line in lines) == 1
        assert turn + said in lines
        assert "ModelNode default/a: condition Ready=True -> Ready=False (Invalid)" in lines


def test_scores_ages_and_counts_are_no_change() -> None:
    before = reports.make_report((reports.make_node("a", reports.make_endpoint()),))
    after = reports.make_report(
        (reports.make_node("a", reports.make_endpoint(score=99.0, age=5.0, requests=9, kv=0.9, reason="other words")),)
    )
    assert compare(before, replace(after, uptime=200.0)) == ()


def test_a_changed_weight_is_told_with_both_values_and_why() -> None:
    before = reports.make_report((reports.make_node("a", reports.make_endpoint(16, 50.0)),))
    after = reports.make_report((reports.make_node("a", reports.make_endpoint(8, 33.0, reason="others hold 5")),))
    [line] = tell(compare(before, after))
    assert line == f"node default/a in pool {reports.POOL}: weight 16 (50%) -> 8 (33%): others hold 5"


def test_trouble_comes_and_goes_in_words() -> None:
    came = "\n".join(tell(compare(reports.healthy(), reports.troubled())))
    assert "node default/qwen-large in pool" in came
    assert "health out of service" in came
    assert "Envoy envoy-2: envoy refuses LDS default_qwen-large-b20737d7: Error adding/updating" in came
    assert "problem found: nodes/broken.yaml:7:3" in came
    assert "condition Accepted=False (Invalid): spec.models" in came
    went = "\n".join(tell(compare(reports.troubled(), reports.healthy())))
    assert "health out of service -> in service" in went
    assert "Envoy envoy-2: envoy refuses LDS default_qwen-large-b20737d7 -> gone" in went
    assert "problem found -> solved: nodes/broken.yaml:7:3" in went
    assert "ModelNode default/qwen-broken: condition present -> gone" in went
    assert "\x1b" not in came


def test_many_weights_of_one_pool_are_one_line_but_each_its_own_change() -> None:
    changes = [c for c in compare(None, reports.many()) if c.what == "weight"]
    assert len(changes) == 100
    [line] = tell(changes)
    assert "weights of 100 nodes changed" in line


async def until(seen: Callable[[], bool]) -> None:
    for _ in range(250):
        if seen():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it never came")


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_plain_view_prints_a_line_for_each_change_and_logs_between() -> None:
    cell: Latest[Report] = Latest()
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    view = PlainView(cell, ("Ask it: curl",), stream=out)
    task = asyncio.create_task(view.run())
    cell.set(reports.foreign())
    view.log("a line\nof log")
    await until(lambda: out.buffer.getvalue().count(b": weight ") == 3)  # type: ignore[attr-defined]
    await end(task)
    text = out.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert text.startswith("Ask it: curl\n")
    assert "a line of log\n" in text


async def test_json_output_is_one_object_for_each_change() -> None:
    cell: Latest[Report] = Latest()
    out = io.StringIO()
    task = asyncio.create_task(PlainView(cell, ("hint",), stream=out, output="json").run())
    cell.set(reports.healthy())
    await until(lambda: '"weight"' in out.getvalue())
    await end(task)
    objects = [json.loads(line) for line in out.getvalue().splitlines()]
    weight = next(o for o in objects if o["what"] == "weight")
    assert weight["subject"] == "node default/qwen-large"
    assert (weight["before"], weight["after"], weight["pool"]) == (None, "16 (57%)", reports.POOL)
    assert "at" in weight


async def test_a_reader_that_went_away_stops_the_printing_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    cell: Latest[Report] = Latest()
    out = open(writing, "w")  # noqa: ASYNC230, SIM115
    task = asyncio.create_task(PlainView(cell, ("hint",), stream=out).run())
    cell.set(reports.healthy())
    done, _ = await asyncio.wait([task], timeout=0.6)
    await end(task)
    with suppress(BrokenPipeError):
        out.close()
    assert not done


async def test_a_reader_that_reads_nothing_does_not_hold_up_the_loop() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    cell: Latest[Report] = Latest()
    out = open(writing, "w")  # noqa: ASYNC230, SIM115
    task = asyncio.create_task(PlainView(cell, ("x" * 200_000,), stream=out).run())
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(20):
        cell.set(reports.healthy())
        await asyncio.sleep(0)
    assert loop.time() - began < 1
    assert not task.done()
    os.set_blocking(reading, False)
    drained = 0
    async with asyncio.timeout(5):
        while drained < 200_000:
            with suppress(BlockingIOError):
                drained += len(os.read(reading, 65536))
            await asyncio.sleep(0)
    await end(task)
    os.close(reading)
    with suppress(BrokenPipeError):
        out.close()
