"""The operator's HTTP server and the commands that ask it, over real sockets."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from support import reports
from weighbridge_operator.admin import AddressUnavailableError, Admin
from weighbridge_operator.client import Paper, explain, over_http, status
from weighbridge_operator.latest import Latest
from weighbridge_operator.report import Report


class Running:
    """A server, its cell and a session."""

    def __init__(self, admin: Admin, cell: Latest[Report], port: int, session: aiohttp.ClientSession) -> None:
        self.admin, self.cell, self.session, self.port = admin, cell, session, port
        self.url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def send(self, raw: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        writer.close()
        return head


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    cell: Latest[Report] = Latest()
    admin = Admin(cell)
    port = await admin.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Running(admin, cell, port, session)
    await admin.stop()


async def test_it_is_alive_before_it_is_ready_and_says_why(running: Running) -> None:
    assert (await running.get("/healthz"))[0] == 200
    code, text = await running.get("/readyz")
    assert (code, "no report yet" in text) == (503, True)
    running.cell.set(reports.make_report((), version=None))
    code, text = await running.get("/readyz")
    assert (code, "no configuration yet" in text) == (503, True)
    running.cell.set(reports.healthy())
    assert (await running.get("/readyz"))[0] == 200


async def test_with_an_envoy_of_its_own_it_is_ready_when_that_is(running: Running) -> None:
    running.cell.set(reports.healthy())
    running.admin.envoy = Latest()
    for serves, code in ((None, 503), (True, 200), (False, 503)):
        if serves is not None:
            running.admin.envoy.set(serves)
        assert (await running.get("/readyz"))[0] == code
    assert (await running.get("/healthz"))[0] == 200


async def test_status_is_the_newest_report_as_json(running: Running) -> None:
    assert (await running.get("/status"))[0] == 503
    running.cell.set(reports.healthy())
    assert json.loads((await running.get("/status"))[1])["problems"] == []
    running.cell.set(reports.troubled())
    code, text = await running.get("/status")
    page = json.loads(text)
    assert code == 200
    assert len(page["problems"]) == 2
    silent = next(o for o in page["objects"] if o["name"] == "qwen-silent")
    assert silent["endpoints"][0]["score"] is None


@pytest.mark.parametrize("wanted", ["qwen-small", "default/qwen-small"])
async def test_explain_takes_one_node_by_either_name(running: Running, wanted: str) -> None:
    running.cell.set(reports.healthy())
    page = json.loads((await running.get(f"/explain?node={wanted}"))[1])
    assert [o["name"] for o in page["objects"]] == ["qwen-small"]
    [explanation] = page["explanations"]
    assert "weight 4 of 28" in explanation["endpoints"][0]["reason"]


async def test_explain_tells_the_arithmetic_of_all_and_names_what_exists(running: Running) -> None:
    running.cell.set(reports.healthy())
    page = json.loads((await running.get("/explain"))[1])
    assert page["explanations"][0]["endpoints"][0]["arithmetic"][0] == "queue 5 of 10 → 0.5 × 40 = 20.0"
    code, text = await running.get("/explain?node=nobody")
    assert code == 404
    assert "default/qwen-large" in json.loads(text)["error"]["message"]


async def test_metrics_have_prometheus_type_and_follow_the_report(running: Running) -> None:
    async with running.session.get(running.url + "/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "weighbridge_node_score" not in await answer.text()
    running.cell.set(reports.healthy())
    assert 'node="qwen-large"' in (await running.get("/metrics"))[1]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/status", "/metrics", "/elsewhere"])
async def test_other_methods_are_refused(running: Running, method: str, path: str) -> None:
    async with running.session.request(method, running.url + path) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"


async def test_head_has_no_body_and_other_paths_name_what_exists(running: Running) -> None:
    async with running.session.head(running.url + "/healthz") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    code, text = await running.get("/")
    assert (code, "/status" in text) == (404, True)


async def test_bodies_and_large_headers_are_refused(running: Running) -> None:
    sized = b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    assert b" 413 " in await running.send(sized)
    unsized = b"GET /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in await running.send(unsized)
    assert b" 400 " in await running.send(b"GET /status HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 9000 + b"\r\n\r\n")
    assert b" 400 " in await running.send(b"GET /status HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n")
    assert (await running.get("/healthz"))[0] == 200


async def test_a_taken_port_is_a_clear_error_and_a_stopped_one_is_free(running: Running) -> None:
    other = Admin(Latest())
    with pytest.raises(AddressUnavailableError, match=rf"cannot listen on 127\.0\.0\.1:{running.port}"):
        await other.start("127.0.0.1", running.port)
    await running.admin.stop()
    assert await other.start("127.0.0.1", running.port) == running.port
    await other.stop()


async def call(command: object, *arguments: object) -> tuple[int, str]:
    out = io.StringIO()
    paper = Paper(out, False, None)
    return await asyncio.to_thread(command, *arguments, paper), out.getvalue()  # type: ignore[arg-type]


async def test_the_commands_print_for_people_and_for_machines(running: Running) -> None:
    running.cell.set(reports.foreign())
    code, text = await call(status, over_http(running.url), "text")
    assert code == 0
    assert "模型节点" in text
    code, text = await call(status, over_http(running.url + "/"), "json")
    assert (code, json.loads(text)["entrance"]) == (0, "http://127.0.0.1:8080")
    running.cell.set(reports.healthy())
    code, text = await call(explain, over_http(running.url), "default/qwen-small", "text")
    assert code == 0
    assert text.startswith("✓ default/qwen-small")
    assert "qwen-large" not in text


async def test_a_node_that_is_not_there_is_an_error_in_one_line(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    running.cell.set(reports.healthy())
    code, text = await call(explain, over_http(running.url), "no body&node=x", "text")
    assert (code, text) == (1, "")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no ModelNode 'no body&node=x'" in said


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://no-such-host.invalid:80", "http://[::1", "file:///etc/passwd"]
)
async def test_who_cannot_be_reached_is_said_with_the_way_out(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = await call(status, over_http(url), "text")
    assert (code, text) == (1, "")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--url" in said
    assert "WEIGHBRIDGE_URL" in said


async def ask_another(first: bytes, body: bytes) -> tuple[int, str]:
    """`weighbridge status` of a server that answers this."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (first, len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await call(status, over_http(f"http://127.0.0.1:{port}"), "text")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b"\xff\xfe", b"null"])
async def test_another_server_is_told_from_the_operator(body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert await ask_another(b"200 OK", body) == (1, "")
    assert "no Weighbridge operator" in capsys.readouterr().err


async def test_the_door_for_requests_is_told_from_the_operators(capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"error": {"message": "There is nothing at this address.", "type": "invalid_request_error"}}'
    assert await ask_another(b"404 Not Found", body) == (1, "")
    told = capsys.readouterr().err
    assert "requests to models go there" in told
    assert "give the operator's with --url" in told


async def test_a_proxy_of_the_environment_is_not_asked(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    running.cell.set(reports.healthy())
    assert (await call(status, over_http(running.url), "json"))[0] == 0


async def test_a_silent_server_is_given_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weighbridge_operator.client.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert (await call(status, over_http(f"http://127.0.0.1:{silent.getsockname()[1]}"), "text"))[0] == 1
    assert "timed out" in capsys.readouterr().err
