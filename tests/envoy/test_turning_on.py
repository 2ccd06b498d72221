"""HTTPS and keys turned on for an Envoy that serves already, with Secrets that are not good: whom it still answers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.mounted import authority, server, side
from support.scene import Scene, wait_for
from support.stack import secret

pytestmark = pytest.mark.envoy
OURS = authority()
KEY = "sk-of-somebody"
CALLERS = secret("callers", somebody=KEY)
TLS, KEYS = ("--entrance-tls-secret", "entrance"), ("--keys-secret", "callers")
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
Answer = tuple[int, str]  # status, error's code


def certificate() -> dict[str, Any]:
    entries = side(server(OURS), OURS)
    return secret("entrance", tls_crt=entries["tls.crt"].decode(), tls_key=entries["tls.key"].decode())


class Switched(Scene):
    """A gateway in plain HTTP whose operator is started anew with other flags and objects."""

    envoy_flags = ("--drain-time-s", "90000", "--drain-strategy", "immediate")  # as everywhere but in tests

    async def switch(self, *flags: str, objects: tuple[dict[str, Any], ...] = (), runs: bool = True) -> None:
        """Returns when the Envoy holds what the new operator offers, or has refused a part of it."""
        await self.operator.kill()
        self.operator_flags = flags
        self.write(*self.objects(), *objects)
        await self.start_operator()
        await wait_for(self.holds if runs else self._refuses)

    async def holds(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with self.http.get(f"http://127.0.0.1:{self.admin}/status") as got:
                told = await got.json()
                self.problems = tuple(told["problems"])
                return [envoy["current"] for envoy in told["envoys"]] == [True]
        return False

    async def _refuses(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with self.http.get(f"http://127.0.0.1:{self.admin}/status") as got:
                envoys = (await got.json())["envoys"]
                return any(kind["error"] for envoy in envoys for kind in envoy["kinds"])
        return False

    async def ask(
        self, key: str | None = None, path: str = "/v1/chat/completions", claims: str | None = None, **more: Any
    ) -> Answer:
        """Over a connection of its own; (0, "") where it is refused. `claims`: the scheme that the caller names."""
        told = {"authorization": key and f"Bearer {key}", "x-forwarded-proto": claims}
        headers = {name: value for name, value in told.items() if value}
        url = f"{'https' if more else 'http'}://localhost:{self.entrance}{path}"
        with suppress(aiohttp.ClientConnectionError):
            async with aiohttp.ClientSession() as http, http.post(url, json=BODY, headers=headers, **more) as got:
                told = await got.json()
                return got.status, told["error"].get("code") or "" if "error" in told else ""
        return 0, ""


@asynccontextmanager
async def switched(*flags: str, objects: tuple[dict[str, Any], ...] = ()) -> AsyncIterator[Switched]:
    async with Switched() as scene:
        await scene.switch(*flags, objects=objects)
        yield scene


async def test_keys_without_their_secret_let_nobody_in() -> None:
    async with switched(*KEYS) as scene:
        # Where no key is known, whether one was sent says nothing.
        assert await scene.ask() == (401, "invalid_api_key")
        assert await scene.ask(KEY) == (401, "invalid_api_key")
        assert "nobody is let in" in scene.problems[0]


async def test_a_connection_from_before_gets_no_answer_without_a_key_either() -> None:
    async with Switched() as scene, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as kept:

        async def ask_again() -> tuple[int, str | None]:
            url = f"{scene.url}/v1/chat/completions"
            async with kept.post(url, json=BODY) as got:
                await got.read()
                return got.status, got.headers.get("connection")

        assert await ask_again() == (200, None)
        await scene.switch(*KEYS, objects=(CALLERS,))
        assert await ask_again() == (401, "close")
        assert (await ask_again())[0] == 401


async def test_keys_are_asked_for_though_the_certificate_beside_them_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(OURS.certificate_pem)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with switched(*TLS, *KEYS, objects=(CALLERS,)) as scene:
        assert await scene.ask() == (401, "missing_api_key")
        assert await scene.ask(KEY) == (503, "entrance_shut")
        assert await scene.ask(KEY, path="/v1/models") == (503, "entrance_shut")
        assert (await scene.ask(KEY, path="/v1/messages"))[0] == 503
        assert "nobody is answered" in scene.problems[0]
        scene.write(*scene.objects(), CALLERS, certificate())

        async def is_open() -> bool:
            return await scene.ask(KEY, ssl=context) == (200, "")

        await wait_for(is_open)
        assert await scene.ask(ssl=context) == (401, "missing_api_key")
        assert await scene.ask() == (0, "")


async def test_who_had_a_key_before_sends_nothing_in_clear_text_while_the_certificate_is_not_there() -> None:
    async with switched(*KEYS, objects=(CALLERS,)) as scene:
        assert await scene.ask(KEY) == (200, "")
        await scene.switch(*TLS, *KEYS, objects=(CALLERS,))
        assert await scene.ask(KEY) == (503, "entrance_shut")
        assert await scene.ask() == (401, "missing_api_key")


async def test_an_operator_that_starts_without_the_certificate_leaves_keys_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(OURS.certificate_pem)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with switched(*TLS, *KEYS, objects=(CALLERS, certificate())) as scene:
        assert await scene.ask(KEY, ssl=context) == (200, "")
        await scene.switch(*TLS, *KEYS, objects=(CALLERS,))
        assert "there is no such Secret" in scene.problems[0]
        assert await scene.ask(KEY, ssl=context) == (200, "")
        assert await scene.ask(ssl=context) == (401, "missing_api_key")
        headers = {"authorization": f"Bearer {KEY}"}
        async with scene.http.get(f"https://localhost:{scene.entrance}/v1/models", headers=headers, ssl=context) as got:
            assert got.status == 200


async def test_keys_are_asked_for_over_the_certificate_that_an_envoy_holds(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(OURS.certificate_pem)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with switched(*TLS, objects=(certificate(),)) as scene:
        assert await scene.ask(ssl=context) == (200, "")
        await scene.switch(*TLS, *KEYS, objects=(CALLERS,))

        async def is_asked_for() -> bool:
            return await scene.ask(ssl=context) == (401, "missing_api_key")

        await wait_for(is_asked_for)
        assert await scene.ask(KEY, ssl=context) == (200, "")


@pytest.mark.parametrize("broken", [(), (secret("entrance", tls_crt="junk", tls_key="junk"),)], ids=["none", "bad"])
async def test_https_alone_answers_nobody_in_plain_http_until_its_certificate_is_good(
    broken: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(OURS.certificate_pem)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with switched(*TLS, objects=broken) as scene:
        assert await scene.ask() == (503, "entrance_shut")
        assert await scene.ask(claims="https") == (503, "entrance_shut")
        assert (await scene.ask(path="/v1/messages"))[0] == 503
        assert "nobody is answered" in scene.problems[0]
        scene.write(*scene.objects(), certificate())

        async def is_open() -> bool:
            return await scene.ask(ssl=context) == (200, "")

        await wait_for(is_open)
        assert await scene.ask(claims="http", ssl=context) == (200, "")
        assert await scene.ask() == (0, "")
        # From now on a slip shuts nobody out, and opens nothing.
        scene.write(*scene.objects(), *broken)

        async def is_told() -> bool:
            return await scene.holds() and any("last good one stays" in problem for problem in scene.problems)

        await wait_for(is_told)
        assert await scene.ask(ssl=context) == (200, "")
        assert await scene.ask() == (0, "")


@pytest.mark.parametrize("known", [(CALLERS,), ()], ids=["keys", "none"])
async def test_keys_are_asked_for_though_envoy_refuses_the_new_listener(
    known: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    async with Switched() as scene:
        await scene.switch(*KEYS, "--request-log", str(tmp_path / "none" / "log"), objects=known, runs=False)
        assert (await scene.ask())[0] == 401
        assert (await scene.ask(path="/v1/models"))[0] == 401
        assert await scene.ask(KEY) == ((200, "") if known else (401, "invalid_api_key"))


async def test_a_listener_over_https_that_envoy_refuses_leaves_nothing_open_in_plain_http(tmp_path: Path) -> None:
    async with Switched() as scene:
        await scene.switch(*TLS, "--request-log", str(tmp_path / "none" / "log"), objects=(certificate(),), runs=False)
        assert await scene.ask() == (503, "entrance_shut")
